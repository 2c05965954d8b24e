"""Gateways of hosted models in one process of their own, and three ways to ask them that must come to the same.

    with hosted_gateways(tmp_path, plain=asking(models.url), wary=asking(models.url, run_tokens=10)) as houses:
        told = await houses["plain"].ask("sse", "hello")
        assert told.code is None                     # or the code that the client was refused with
        assert told.said == [("user", "hello"), ("assistant", "Hello there.")]

However a run is asked for, its whole event log is read again over a WebSocket and held to the grammar.
"""

import json
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from processes import Kind, server
from recording import Heard, client, heard_of, streamed, talking
from recording import sent as read_sent

from argentor_asgi.compose import openapi
from argentor_asgi.protocol.grammar import check

WAYS = ("rest", "ws", "sse")
KEY = "sk-of-the-provider-0123456789"
"""The key that the gateways have of their model's provider."""
PROVIDER_OF = {"openai": "openai", "anthropic": "claude", "gemini": "gemini"}
MODEL_OF = {"openai": "gpt-5-mini", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-pro"}
UNSAME = {"id", "run_id", "session_id", "created_at", "timestamp", "duration_ms", "seq"}
"""The members of messages and events that differ from run to run."""
DOCUMENT = openapi()


def asking(url: str, wire: str = "openai", **settings: object) -> dict[str, object]:
    """Return the settings of a gateway that asks this server over this wire; each failure is told at once."""
    return {
        "llm_provider": PROVIDER_OF[wire],
        "llm_model": MODEL_OF[wire],
        "llm_api_key": KEY,
        "llm_base_url": url,
        "llm_retries": 0,
        "llm_breaker_failures": 100_000,
        **settings,
    }


@dataclass
class Told:
    """What came of one message. `code`: what the client was refused or failed with, None when it was answered.

    `answer`: the last word that the client got: the JSON of the body, the terminal event or the closing frame.
    `heard`: the run's events, whole; `streamed`: those that the client itself got. `run`: its view. `said`: role and
    content of the session's messages. `stored`: these messages as they are kept, without what differs every time.
    """

    way: str
    code: str | None
    answer: dict
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    heard: Heard = field(default_factory=Heard)
    streamed: Heard | None = None
    run: dict = field(default_factory=dict)
    said: list[tuple[str, str]] = field(default_factory=list)
    stored: list[dict] = field(default_factory=list)

    @property
    def session_id(self) -> str:
        return self.run["session_id"]

    @property
    def text(self) -> str:
        """All text that was streamed, of all turns."""
        return "".join(event["text"] for event in self.heard.of("text_delta"))

    @property
    def events(self) -> list[dict]:
        """The run's events without what differs every time, in the order of their numbers."""
        return [same(event) for event in self.heard.events]

    @property
    def broken_off(self) -> list[str]:
        """What the model said, as it is stored, where it did not come to its end."""
        return [message["content"] for message in self.stored if message["metadata"].get("interrupted")]

    def parts(self, kind: str) -> list[dict]:
        """Return the stored parts of this type."""
        return [part for message in self.stored for part in message["parts"] if part["type"] == kind]


def same(value: object) -> object:
    """Return the value without what differs from run to run; ids of calls stay, since the model gives them."""
    if not isinstance(value, dict):
        return value
    is_call = str(value.get("type", "")).startswith("tool_")
    return {name: each for name, each in value.items() if name not in UNSAME or (name == "id" and is_call)}


@dataclass
class House:
    """One gateway. `prefix`: of its paths; `file`: where it keeps what is said."""

    port: int
    prefix: str
    file: Path

    async def get(self, path: str) -> dict | list | str:
        async with client(self.port) as http:
            answer = await http.get(self.prefix + path)
        return answer.json() if answer.headers["content-type"].startswith("application/json") else answer.text

    async def metric(self, sample: str) -> float:
        """Return the value of one sample, named with its labels; 0 for one that is not there."""
        lines = str(await self.get("/metrics")).splitlines()
        return next((float(line.split(" ")[-1]) for line in lines if line.rpartition(" ")[0] == sample), 0.0)

    async def ask(self, way: str, text: str, session_id: str | None = None, **more: object) -> Told:
        """Ask this way, in this session or a new one, and look at all that came of it."""
        told = await {"rest": self._rest, "ws": self._ws, "sse": self._sse}[way](text, session_id, more)
        if told.heard.run_id:
            await self.look(told)
        return told

    async def look(self, told: Told) -> None:
        """Read the run, its whole log and its session again, and check that they agree with what was told."""
        run_id = told.heard.run_id
        async with talking(self.port, f"{self.prefix}/ws") as talk:
            told.heard = await talk.resume(run_id)
        check(told.heard.events)
        if told.streamed is not None:
            assert agree(told.streamed, told.heard)
        told.run = await self.get(f"/api/v1/runs/{run_id}")
        await self.read(told)

    async def read(self, told: Told) -> None:
        whole = await self.get(f"/api/v1/sessions/{told.session_id}")
        told.said = [(message["role"], message["content"]) for message in whole["messages"]]
        told.stored = self.kept(told.session_id)
        assert [(message["role"], message["content"]) for message in told.stored] == told.said

    def kept(self, session_id: str) -> list[dict]:
        """Return the session's messages as the store has them, without what differs every time."""
        query = "SELECT role, content, parts, metadata FROM messages WHERE session_id = ? ORDER BY idx"
        with closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True)) as database:
            rows = database.execute(query, (session_id,)).fetchall()
        return [
            {"role": role, "content": content, "parts": _parts(parts), "metadata": json.loads(metadata or "{}")}
            for role, content, parts, metadata in rows
        ]

    async def _rest(self, text: str, session_id: str | None, more: dict) -> Told:
        async with client(self.port) as http:
            newest = await self._newest()
            body = {"message": text, "session_id": session_id, **more}
            answer = await http.post(f"{self.prefix}/api/v1/agent/chat", json=body)
            reply = answer.json()
            told = Told("rest", reply.get("code"), reply, answer.status_code, answer.headers)
            assert (told.code is None) == (answer.status_code == 200)
            check_documented("/api/v1/agent/chat", told)
            run_id = reply.get("run_id") or await self._newest()
            if run_id != newest:
                path = f"{self.prefix}/api/v1/runs/{run_id}/stream"
                told.streamed = told.heard = await streamed(self.port, "GET", path)
        if told.heard.run_id:
            last = told.heard.last
            assert told.code == last.get("code")
            assert told.code is not None or reply["response"] == last["text"]
        return told

    async def _newest(self) -> str | None:
        runs = await self.get("/api/v1/runs?limit=1")
        return runs[0]["run_id"] if runs else None

    async def _ws(self, text: str, session_id: str | None, more: dict) -> Told:
        async with talking(self.port, f"{self.prefix}/ws") as talk:
            frame = {"session_id": session_id} if session_id else {}
            heard = await talk.ask(text, **frame, **more)
        told = Told("ws", heard.closing.get("code"), heard.closing, heard=heard)
        told.streamed = heard if heard.events else None
        return told

    async def _sse(self, text: str, session_id: str | None, more: dict) -> Told:
        body = {"input": text, "session_id": session_id, **more}
        async with client(self.port) as http:
            answer = await http.post(f"{self.prefix}/api/v1/chat/stream", json=body)
        if answer.status_code != 200:
            told = Told("sse", answer.json()["code"], answer.json(), answer.status_code, answer.headers)
            check_documented("/api/v1/chat/stream", told)
            return told
        *blocks, rest = answer.content.split(b"\n\n")
        assert rest == b""
        heard = heard_of([read_sent(block) for block in blocks])
        return Told("sse", heard.last.get("code"), heard.last, heard=heard, streamed=heard)


def check_documented(path: str, told: Told) -> None:
    """Check that the OpenAPI document tells of a refusal with this status and this code."""
    documented = DOCUMENT["paths"][path]["post"]["responses"][str(told.status)]["description"]
    assert told.code is None or f"`{told.code}`" in documented


def agree(streamed: Heard, whole: Heard) -> bool:
    """Say whether what a client was streamed is the run's log: all of it, but for what server-sent events leave out."""
    numbers = {event["seq"] for event in streamed.events}
    left_out = {event["type"] for event in whole.events if event["seq"] not in numbers}
    types = {event["seq"]: event["type"] for event in whole.events}
    return left_out <= {"tool_call_start", "tool_call_delta"} and all(
        types[event["seq"]] == event["type"] for event in streamed.events
    )


def _parts(stored: bytes | None) -> list[dict]:
    return [{name: each for name, each in part.items() if each is not None} for part in json.loads(stored or "[]")]


@contextmanager
def hosted_gateways(directory: Path, **houses: Mapping[str, object]) -> Iterator[dict[str, House]]:
    """Run gateways with these settings, by the names of their variables, each under its own name."""
    told = {name: {key: _text(value) for key, value in settings.items()} for name, settings in houses.items()}
    env = {"HOUSES": json.dumps(told)}
    with server("hypercorn-asyncio", "hosted_gateways_app:app", cwd=directory, env=env, workers=0) as running:
        yield {name: House(running.port, f"/{name}", directory / f"{name}.db") for name in houses}


@asynccontextmanager
async def served(kind: Kind, directory: Path, settings: Mapping[str, object]) -> AsyncIterator[tuple[House, server]]:
    """Serve one gateway with these settings as an operator does; yield its process too."""
    told = {"storage_url": "sqlite:///served.db", "shutdown_ready_delay_s": 0, **settings}
    env = {f"ARGENTOR_{name.upper()}": _text(value) for name, value in told.items()}
    async with server(kind, cwd=directory, env=env) as running:
        yield House(running.port, "", directory / "served.db"), running


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
