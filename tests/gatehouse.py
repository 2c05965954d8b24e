"""A gateway with keys, in a process of its own, and plain clients of it: `http.client` and `websockets`.

with guarded("serve", tmp_path, [key("me"), key("you", plan="few")], plans={"few": {...}}) as running:
    assert ask(running.port, "GET", "/api/v1/skills", who="me").status == 200
"""

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from processes import Kind, server
from recording import PATIENCE_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

CHEAP = "/api/v1/skills"
"""A route that needs a key and costs little."""
CHAT = "/api/v1/agent/chat"
STREAM = "/api/v1/chat/stream"
KEYS = "/api/v1/keys"
SERVERS: Sequence[tuple[Kind, int | None]] = (("serve", None), ("hypercorn-asyncio", 0))
"""How the gateway is served by default: by its own command, and by hypercorn alone in one process."""
EVERY_SERVER: Sequence[tuple[Kind, int | None]] = (*SERVERS, ("uvicorn", None), ("granian", None))
POLL_S = 0.02


def secret(who: str) -> str:
    """Return the key of a holder, long enough that finding it anywhere is no accident."""
    return f"agtr-{who}-5ecret-0123456789abcdef"


def key(who: str, **rights: object) -> dict[str, object]:
    """Return the row of `auth.keys` of a holder; `rights`: scopes, tenant, plan, expires_at."""
    return {"name": who, "key": secret(who), **rights}


@contextmanager
def guarded(
    kind: Kind,
    directory: Path,
    keys: Sequence[Mapping[str, object]] = (),
    *,
    workers: int | None = None,
    app: str = "argentor_asgi:app",
    plans: Mapping[str, Mapping[str, int]] | None = None,
    tracebacks: bool = False,
    **settings: object,
) -> Iterator[server]:
    """Run a gateway with these keys. `settings`: such as `limits_burst=5`, by the names of their variables."""
    env = {f"ARGENTOR_{name.upper()}": _text(value) for name, value in settings.items()}
    env.setdefault("ARGENTOR_SHUTDOWN_READY_DELAY_S", "0")  # `argentor serve` would wait for a balancer
    if keys:
        env["ARGENTOR_AUTH_KEYS"] = json.dumps(keys)
    if plans:
        env["ARGENTOR_PLANS"] = json.dumps(plans)
    with server(kind, app, cwd=directory, env=env, workers=workers, tracebacks=tracebacks) as running:
        yield running


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class Got:
    """One answer; names of headers are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> object:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """What a problem is called."""
        assert self.headers["content-type"] == "application/problem+json", self.headers
        problem = self.json()
        assert problem["status"] == self.status
        return problem["code"]


class Line:
    """One connection to the gateway that stays open, on which one caller asks again and again."""

    def __init__(self, port: int, who: str | None = None, *, text: str | None = None):
        """`who`: whose configured key it carries; `text`: or which other key."""
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        carried = text if who is None else secret(who)
        self.headers = {} if carried is None else {"Authorization": f"Bearer {carried}"}

    def ask(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Got:
        found = self.begin(method, path, body, headers)
        return Got(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())

    def begin(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Ask, and return the answer when its head is there."""
        data = None if body is None else json.dumps(body)
        kind = {} if body is None else {"Content-Type": "application/json"}
        self.http.request(method, path, data, {**self.headers, **kind, **(headers or {})})
        return self.http.getresponse()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()


def ask(
    port: int,
    method: str,
    path: str,
    body: object = None,
    *,
    who: str | None = None,
    text: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Got:
    """Ask once on a connection of its own."""
    with Line(port, who, text=text) as line:
        return line.ask(method, path, body, headers)


@contextmanager
def opened(
    port: int, who: str | None = None, *, text: str | None = None, path: str = "/ws", **headers: str
) -> Iterator["Socket"]:
    """Open a socket and hear its welcome. Raises `websockets.InvalidStatus` for one that is refused."""
    carried = text if who is None else secret(who)
    more = {} if carried is None else {"Authorization": f"Bearer {carried}"}
    url = f"ws://127.0.0.1:{port}{path}"
    with connect(url, additional_headers=more | headers, compression=None, open_timeout=PATIENCE_S) as socket:
        found = Socket(socket)
        found.welcome = found.frame()
        assert found.welcome["type"] == "connected"
        yield found


class Socket:
    """An open socket. `welcome`: its first frame."""

    def __init__(self, socket: ClientConnection):
        self.socket = socket
        self.welcome: dict = {}

    def say(self, **frame: object) -> None:
        self.socket.send(json.dumps(frame))

    def frame(self) -> dict:
        return json.loads(self.socket.recv(timeout=PATIENCE_S))

    def closing(self) -> dict:
        """Return the next frame that closes a run or refuses a message."""
        while (frame := self.frame()).get("type") not in {"response", "error"}:
            pass
        return frame

    def ended(self) -> int | None:
        """Return the code that it is closed with, after whatever it says."""
        with suppress(ConnectionClosed):
            while self.frame():
                pass
        return self.socket.close_code

    def asked(self, content: str, **more: object) -> dict:
        self.say(content=content, **more)
        return self.closing()


def eventually(look: Callable[[], object], *, within_s: float = PATIENCE_S) -> object:
    """Look again and again, and return what is seen as soon as it is true."""
    until = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < until, "it never came to that"
        time.sleep(POLL_S)
    return found
