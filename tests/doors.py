"""The whole gateway in memory with a scripted model, and clients of its doors that check all they hear.

async with doors(answer("hello")) as house:
    reply = await house.post("/api/v1/agent/chat", {"message": "hi"})
    async with house.talk() as talk:
        heard = await talk.ask("hi")
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from asgi_driver import Answer, Exchange, Peer, begin, http, lifespan, websocket
from faulty_store import FaultyStore
from recording import CLOSING, Heard, check_frames, heard_of, sents
from scripted_backend import Script, ScriptedBackend

from argentor_asgi.asgi.types import App
from argentor_asgi.compose import gateway
from argentor_asgi.config import Agent, Auth, Config, Limits, Log, Secret, Shutdown, Storage
from argentor_asgi.ops.drain import Drain

KEYS = {"me": "k-me-0123456789abcdef", "you": "k-you-0123456789abcdef"}
"""Two API keys by the names of their owners."""
CHAT = "/api/v1/agent/chat"
STREAM = "/api/v1/chat/stream"


@dataclass
class Doors:
    """A gateway that is started. `who`: whose key its requests carry, None for none."""

    app: App
    backend: ScriptedBackend
    store: FaultyStore
    drain: Drain
    who: str | None = None

    def as_(self, who: str | None) -> "Doors":
        """Return the same gateway as another client sees it."""
        return Doors(self.app, self.backend, self.store, self.drain, who)

    def headers(self, more: dict[str, str] | None = None) -> dict[str, str]:
        key = {"x-api-key": KEYS[self.who]} if self.who else {}
        return {"host": "localhost", **key, **(more or {})}

    def begin(self, method: str, target: str, body: object = None, headers: dict[str, str] | None = None) -> Exchange:
        """Start a request with a JSON body, or with none."""
        fields, data = self.headers(headers), b""
        if body is not None:
            fields, data = {"content-type": "application/json", **fields}, json.dumps(body).encode()
        return begin(self.app, method, target, headers=fields, body=data)

    async def post(self, target: str, body: object = None, **headers: str) -> Answer:
        return await self._answer(self.begin("POST", target, body, _dashed(headers)))

    async def get(self, target: str, **headers: str) -> Answer:
        return await http(self.app, "GET", target, headers=self.headers(_dashed(headers)))

    async def delete(self, target: str) -> Answer:
        return await http(self.app, "DELETE", target, headers=self.headers())

    async def _answer(self, exchange: Exchange) -> Answer:
        try:
            return await exchange.end()
        finally:
            exchange.leave()
            exchange.task.cancel()

    @asynccontextmanager
    async def talk(self, **options: object) -> "AsyncIterator[Talk]":
        """Open a socket and hear its welcome."""
        async with websocket(self.app, "/ws", headers=self.headers(), **options) as peer:
            yield Talk(peer, json.loads(await peer.get()))


@dataclass
class Talk:
    """One socket: what it says, and what it hears. `welcome` is the first frame."""

    peer: Peer
    welcome: dict
    session_id: str = field(init=False)

    def __post_init__(self) -> None:
        assert self.welcome["type"] == "connected"
        self.session_id = self.welcome["session_id"]

    def say(self, **frame: object) -> None:
        self.peer.put(json.dumps(frame))

    async def frame(self) -> dict:
        return json.loads(await self.peer.get())

    async def until(self, kind: str) -> dict:
        """Return the frame of the next event of this type; what comes before it is dropped."""
        while (frame := await self.frame()).get("event", {}).get("type") != kind:
            pass
        return frame

    async def until_closed(self) -> dict:
        """Return the next frame that closes a run or refuses a message; what comes before it is dropped."""
        while (frame := await self.frame()).get("type") not in CLOSING:
            pass
        return frame

    async def ask(self, content: str, **more: object) -> Heard:
        self.say(content=content, **more)
        return await self.record()

    async def record(self, *, after: int = 0) -> Heard:
        """Take the frames of one run up to the one that closes it, check them, and that nothing follows."""
        heard = Heard()
        while (frame := await self.frame()).get("type") not in CLOSING:
            heard.take(frame)
        heard.closing = frame
        check_frames(heard, after=after)
        await self.is_silent()
        return heard

    async def is_silent(self) -> None:
        """Prove that no frame waits: a ping is answered by the very next one."""
        self.say(type="ping")
        assert await self.frame() == {"type": "pong"}


@asynccontextmanager
async def doors(
    *scripts: Script,
    keys: tuple[str, ...] = (),
    limits: dict | None = None,
    agent: dict | None = None,
    store: FaultyStore | None = None,
    drain_s: float = 4.0,
    total_s: float = 30.0,
    tables: dict | None = None,
    **more: object,
) -> AsyncIterator[Doors]:
    """Hold a gateway between its start and its stop; at the end whatever is parked is released, and runs are checked.

    `tables`: further ones of its configuration.
    """
    backend, store = ScriptedBackend(*scripts), store or FaultyStore()
    config = Config(
        storage=Storage(url="memory://"),
        auth=Auth(api_keys=tuple(Secret(f"{name}:{KEYS[name]}") for name in keys)),
        limits=Limits(**(limits or {})),
        agent=Agent(**(agent or {})),
        shutdown=Shutdown(drain_s=drain_s, total_s=total_s),
        log=Log(access=False),
        **(tables or {}),
    )
    made = gateway(config, agent=backend, sessions=store, **more)
    async with lifespan(made.app):
        try:
            yield Doors(made.app, backend, store, made.drain, keys[0] if keys else None)
        finally:
            backend.release.set()
    if isinstance(store, FaultyStore):
        store.check_runs()


def streamed(answer: Answer, *, resumed: bool = False) -> Heard:
    """Read a whole stream, checked."""
    assert answer.status == 200, answer.body
    assert answer.header("content-type") == "text/event-stream; charset=utf-8"
    return heard_of(list(sents(answer.body)), resumed=resumed)


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
