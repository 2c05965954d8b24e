"""Requests that no sane client makes, and what every answer to them must be.

    asked = Ask("POST", "/api/v1/agent/chat", body=b"{", status=400, code="malformed_json")
    check(asked, exchange(port, asked))

A refusal is `application/problem+json` of exactly one shape (design 6.3), under the request's id, and says nothing
about what is inside the gateway.
"""

import http.client
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus

import psutil

PATIENCE_S = 10.0
"""How long an answer may take."""
MIB = 1024 * 1024
CHAT = "/api/v1/agent/chat"
SUM = "what is 17*23?"
MEMBERS = {"type": str, "title": str, "status": int, "code": str, "error": str, "message": str, "request_id": str}
"""The members that every problem has."""
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}
"""The phrases that RFC 9110 has and Python only since 3.13."""
OPTIONAL = {"details": list, "retry_after": int}
INTERNAL = re.compile(
    r"Traceback|argentor_asgi|msgspec|orjson|sqlite|asyncio|hypercorn|uvicorn|granian|site-packages|\.py\b|object at 0x"
)
"""What only the log may hold."""
CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Ask:
    """One request, and the status and code that it must be answered with; `code` None for a success.

    `template`: the row of the API's description that must declare the status, None for what no route answers.
    `pointer`: of the first detail. `allow`: of a 405. `host` None sends none.
    """

    method: str
    target: str
    status: int
    code: str | None = None
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    template: str | None = None
    pointer: str | None = None
    allow: str | None = None
    is_chunked: bool = False
    name: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.target[:60]} {self.name}".rstrip()


@dataclass(frozen=True)
class Answer:
    """An answer as it came."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def exchange(port: int, asked: Ask) -> Answer:
    """Send the request on a connection of its own, and read its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        _send(connection, asked)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def _send(connection: http.client.HTTPConnection, asked: Ask) -> None:
    connection.putrequest(asked.method, asked.target, skip_host=True, skip_accept_encoding=True)
    given = {"host": f"127.0.0.1:{connection.port}", **dict(asked.headers)}
    if asked.body:
        given.setdefault("content-type", "application/json")
        framing = ("transfer-encoding", "chunked") if asked.is_chunked else ("content-length", str(len(asked.body)))
        given.setdefault(*framing)
    for name, value in given.items():
        connection.putheader(name, value)
    try:
        connection.endheaders(_chunks(asked) if asked.body else None, encode_chunked=asked.is_chunked)
    except (BrokenPipeError, ConnectionResetError):
        return  # refused before the body was sent; the answer is there to read


def _chunks(asked: Ask) -> Iterator[bytes]:
    for at in range(0, len(asked.body), CHUNK_BYTES):
        yield asked.body[at : at + CHUNK_BYTES]


def check(asked: Ask, answer: Answer) -> None:
    """Check that the answer is the one that the request must get."""
    assert answer.status == asked.status, answer.body[:400]
    assert answer.headers["x-request-id"]
    if asked.allow is not None:
        assert answer.headers["allow"] == asked.allow
    if asked.method == "HEAD":
        assert answer.body == b""
    elif asked.code is not None:
        problem = check_problem(answer, asked.code)
        if asked.pointer is not None:
            assert problem["details"][0]["pointer"] == asked.pointer, problem


def check_problem(answer: Answer, code: str) -> dict:
    """Check that the answer is a problem with this code and of exactly the one shape; return it."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = check_problem_body(answer.body.decode())
    assert (problem["code"], problem["status"]) == (code, answer.status)
    assert problem["request_id"] == answer.headers["x-request-id"]
    retry_after = problem.get("retry_after")
    assert answer.headers["retry-after"] == (None if retry_after is None else str(retry_after))
    return problem


def check_problem_body(text: str) -> dict:
    """Check that the text is a problem of exactly the one shape; return it."""
    check_says_nothing_internal(text)
    problem = json.loads(text)
    kinds = {name: type(value) for name, value in problem.items()}
    assert kinds == MEMBERS | {name: kind for name, kind in OPTIONAL.items() if name in kinds}
    assert problem["type"] == f"urn:argentor:error:{problem['code']}"
    assert problem["title"] == (TITLES.get(problem["status"]) or HTTPStatus(problem["status"]).phrase)
    check_details(problem)
    return problem


def check_says_nothing_internal(text: str) -> None:
    """Check that a text for clients says nothing about what is inside."""
    assert not INTERNAL.search(text), text


def check_details(problem: dict) -> None:
    """Check the shape of each detail of a refusal."""
    for detail in problem.get("details", []):
        assert {name: type(value) for name, value in detail.items()} == {"pointer": str, "message": str}
        assert detail["pointer"] == "" or detail["pointer"].startswith("/")


def calculates(port: int, *, key: str = "none") -> bool:
    """Say whether the gateway still does its sum."""
    body = json.dumps({"message": SUM}).encode()
    answer = exchange(port, Ask("POST", CHAT, 200, body=body, headers=(("x-api-key", key),)))
    return answer.status == 200 and "17*23 = 391" in json.loads(answer.body)["response"]


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a server: of its process and of all its workers."""
    process = psutil.Process(pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))


ROUNDS = 6


def levels_off(pid: int, work: Callable[[], object], most_bytes: int) -> list[int]:
    """Repeat `work` until a round grows a server by less than `most_bytes`, and return what each round grew it by.

    Allocators keep what a peak once needed, so that single rounds say little; what leaks grows the server every round.
    The last figure is at least `most_bytes` if none of `ROUNDS` rounds was calm.
    """
    grown: list[int] = []
    while len(grown) < ROUNDS and (not grown or grown[-1] >= most_bytes):
        before = rss_bytes(pid)
        work()
        grown.append(rss_bytes(pid) - before)
    return grown
