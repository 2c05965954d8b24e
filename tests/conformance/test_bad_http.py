"""Hostile requests over real sockets: each gets its declared answer, and the gateway is none the worse for them."""

import gzip
import json
from uuid import uuid4

import pytest
from hostile import CHAT, MIB, SUM, Ask, calculates, check, exchange, levels_off
from processes import server

pytestmark = pytest.mark.slow

KINDS = ["hypercorn-asyncio", "hypercorn-uvloop", "uvicorn", "granian"]
GROWTH_BYTES = 12 * MIB
"""How much more memory a server may hold after the second time than after the first."""
STREAM = "/api/v1/chat/stream"
FIELDS = {CHAT: "message", STREAM: "input"}
CAP_BYTES = 2 * MIB
MESSAGE_BYTES = 100_000
UNKNOWN = str(uuid4())
LONG = "a" * 8192


def message(path: str, text: str = SUM, **more) -> bytes:
    return json.dumps({FIELDS[path]: text, **more}).encode()


def post(  # noqa: PLR0917  a row of a table
    path: str, name: str, status: int, code: str | None, body: bytes, pointer: str | None = None, **more
) -> Ask:
    return Ask("POST", path, status, code, body, template=path, pointer=pointer, name=name, **more)


def padded(path: str, pad: str) -> bytes:
    """Return a good request with an unknown member of this JSON."""
    return message(path)[:-1] + b', "pad": ' + pad.encode() + b"}"


def filled(path: str, size_bytes: int) -> bytes:
    """Return a good request of exactly this size."""
    start = message(path)[:-1] + b', "pad": "'
    return start + b"a" * (size_bytes - len(start) - 2) + b'"}'


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def malformed(path: str) -> list[Ask]:
    """Return bodies that are not JSON, or not JSON that everybody reads alike."""
    field = FIELDS[path]
    bodies = {
        "no body": b"",
        "open object": b"{",
        "text": b"hello",
        "two documents": message(path) * 2,
        "trailing comma": message(path)[:-1] + b",}",
        "single quotes": b"{'a': 1}",
        "a comment": message(path) + b"// x",
        "a byte order mark": b"\xef\xbb\xbf" + message(path),
        "UTF-16": message(path).decode().encode("utf-16"),
        "invalid UTF-8": b'{"' + field.encode() + b'": "\xff\xfe"}',
        "a surrogate in bytes": b'{"' + field.encode() + b'": "\xed\xa0\x80"}',
        "a lone surrogate": b'{"' + field.encode() + b'": "\\ud800"}',
        "a raw newline in a string": b'{"' + field.encode() + b'": "a\nb"}',
        "a member twice": b'{"%b": "a", "%b": "b"}' % (field.encode(), field.encode()),
        "an unknown member twice": padded(path, '{"a": 1, "a": 2}'),
        "NaN": padded(path, "NaN"),
        "Infinity": padded(path, "-Infinity"),
        "an integer of 65 bits": padded(path, str(2**64)),
        "a negative integer of 65 bits": padded(path, str(-(2**63) - 1)),
        "a number with a leading zero": padded(path, "01"),
        "65 levels": padded(path, nested(64)),
        "1,000 levels": padded(path, nested(1_000)),
        "100,000 levels": padded(path, nested(100_000)),
        "100,000 levels of nothing else": b"[" * 100_000,
        "100,000 objects": b'{"a":' * 100_000,
        "compressed": gzip.compress(message(path)),
    }
    typed = (("content-type", "application/json"),)
    return [post(path, name, 400, "malformed_json", body, headers=typed) for name, body in bodies.items()]


def misfits(path: str) -> list[Ask]:
    """Return JSON of the wrong shape, with the pointer to what is wrong."""
    field = FIELDS[path]
    found = [
        post(path, f"{name} of another type", 422, "invalid_input", json.dumps({field: SUM, name: value}).encode(), at)
        for name, at, values in (
            (field, f"/{field}", (None, 1, 1.5, True, [], {}, ["a"])),
            ("session_id", "/session_id", ("", "x", UNKNOWN[:-1], 1, True, [], {})),
            ("on_busy", "/on_busy", ("never", "", 1, False, [], {})),
        )
        for value in values
    ]
    found += [
        post(path, name, 422, "invalid_input", body, "")
        for name, body in {"array": b"[]", "text": b'"a"', "number": b"1", "null": b"null", "true": b"true"}.items()
    ]
    return [*found, post(path, "nothing", 422, "invalid_input", b"{}", f"/{field}")]


def stream_misfits() -> list[Ask]:
    wrong = {"role": ("assistant", 1, []), "model": ("gpt-4", "", 1, {}), "on_disconnect": ("stay", 1)}
    return [
        post(STREAM, f"a wrong {name}", 422, "invalid_input", message(STREAM, **{name: value}), f"/{name}")
        for name, values in wrong.items()
        for value in values
    ]


def contents(path: str) -> list[Ask]:
    """Return well-formed requests whose words are not taken, or just so."""
    long = "x" * MESSAGE_BYTES
    return [
        post(path, "empty", 400, "empty_input", message(path, "")),
        post(path, "blank", 400, "empty_input", message(path, " \t\r\n\u2003")),
        post(path, "control characters only", 422, "content_rejected", message(path, "\x00\x07\u0082\u202e")),
        post(path, "an escape sequence only", 422, "content_rejected", message(path, "\x1b[31m")),
        post(path, "message at the cap", 200, None, message(path, long)),
        post(path, "message over the cap", 413, "body_too_large", message(path, long + "x")),
        post(path, "message over the cap in UTF-8", 413, "body_too_large", message(path, "é" * 50_001)),
        post(path, "NUL in the message", 200, None, message(path, f"{SUM}\x00")),
        post(path, "64 levels", 200, None, padded(path, nested(63))),
        post(path, "unknown members", 200, None, padded(path, '{"role": "root"}')),
        post(path, "an integer of 64 bits", 200, None, padded(path, str(2**64 - 1))),
        post(path, "another session's id", 200, None, message(path, session_id=str(uuid4()))),
    ]


def sizes(path: str) -> list[Ask]:
    """Return bodies at the cap and over it, and one of very many members."""
    many = "{" + ",".join(f'"{number:x}":1' for number in range(200_000)) + "}"
    return [
        post(path, "body at the cap", 200, None, filled(path, CAP_BYTES)),
        post(path, "body over the cap", 413, "body_too_large", filled(path, CAP_BYTES + 1)),
        post(path, "chunked body at the cap", 200, None, filled(path, CAP_BYTES), is_chunked=True),
        post(path, "chunked body over the cap", 413, "body_too_large", filled(path, CAP_BYTES + 1), is_chunked=True),
        post(path, "200,000 members", 400, "malformed_json", padded(path, many)),
    ]


def media(path: str) -> list[Ask]:
    """Return good bodies under other media types, and in other spellings of the right one."""
    bad = [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
    ]
    good = ["application/json; charset=utf-8", "APPLICATION/JSON", "application/problem+json", "application/json;"]
    return [
        *(post(path, kind, 415, "unsupported_media_type", message(path), headers=_typed(kind)) for kind in bad),
        *(post(path, kind, 200, None, message(path), headers=_typed(kind)) for kind in good),
    ]


def _typed(kind: str) -> tuple[tuple[str, str], ...]:
    return (("content-type", kind),)


def keys(path: str) -> list[Ask]:
    """Return bad idempotency keys, and requests with headers that nobody can use."""
    bad = ["", '""', "a" * 256, "a\tb", "\x80", "schlüssel"]
    odd = {"x-request-id": "a b\x80", "traceparent": "00-zz", "cookie": "=;;=", "accept": "\xff", "range": "bytes=-1"}
    return [
        *(post(path, repr(key), 400, "bad_request", message(path), headers=(("idempotency-key", key),)) for key in bad),
        *(post(path, name, 200, None, message(path), headers=((name, value),)) for name, value in odd.items()),
        post(path, "another origin", 403, "forbidden", message(path), headers=(("origin", "http://evil.example"),)),
        post(path, "no origin", 403, "forbidden", message(path), headers=(("origin", "null"),)),
        post(path, "another host", 403, "forbidden", message(path), headers=(("host", "evil.example"),)),
    ]


def places() -> list[Ask]:
    """Return ids of events that this gateway never gave."""
    unknown = (("last-event-id", f"{UNKNOWN}:3"),)
    foreign = (("last-event-id", "nobody:1"),)
    odd = ["", "1", ":", "a:b", f"{UNKNOWN}:-1", f"{UNKNOWN}:{2**64}", f"{UNKNOWN}:\xb2", "\x80:x", "a" * 8000]
    return [
        post(STREAM, "an unknown run", 404, "run_not_found", message(STREAM), headers=unknown),
        post(STREAM, "an id that is none", 404, "run_not_found", message(STREAM), headers=foreign),
        *(post(STREAM, repr(it)[:20], 200, None, message(STREAM), headers=(("last-event-id", it),)) for it in odd),
    ]


BAD_IDS = ["x", "1", UNKNOWN[:-1], UNKNOWN + "0", "%2F", "%F0%9F%98%80", LONG[:4096]]
BAD_SEGMENTS = [
    "%00",
    "..",
    ".",
    "%2e%2e",
    ".%2E",
    "%5c",
    "%0d%0a",
    "a%2f..%2fb",
    "\\",
    f"{UNKNOWN}%00",
    f"{UNKNOWN}%7f",
]
"""What no path may have, whatever route it is for."""
ID_ROUTES = [
    ("GET", "/api/v1/runs/{run_id}", "run_not_found"),
    ("GET", "/api/v1/runs/{run_id}/stream", "run_not_found"),
    ("POST", "/api/v1/runs/{run_id}/cancel", "run_not_found"),
    ("GET", "/api/v1/sessions/{session_id}", "session_not_found"),
    ("DELETE", "/api/v1/sessions/{session_id}", "session_not_found"),
]


def ids() -> list[Ask]:
    """Return paths whose id is none, is not UTF-8, or is nobody's."""
    found = []
    for method, template, code in ID_ROUTES:
        head, _, tail = template.partition("{")
        tail = tail.partition("}")[2]
        bad = [(given, 400, "invalid_path") for given in BAD_IDS]
        bad += [(given, 400, "bad_request") for given in BAD_SEGMENTS]
        odd = [("%ff", 400, "bad_request"), (UNKNOWN, 404, code), (UNKNOWN.upper(), 404, code)]
        for given, status, said in [*bad, *odd]:
            found.append(Ask(method, f"{head}{given}{tail}", status, said, template=template))
        found.append(Ask(method, f"{head}{LONG}{tail}", 414, "target_too_long"))
    return found


def queries() -> list[Ask]:
    """Return lists and replays whose parameters are out of range, of another type, or given twice."""
    found = []
    for path in ("/api/v1/runs", "/api/v1/sessions"):
        limits = ["", "0", "-1", "1001", "1.5", "1e400", "NaN", "true", "abc", str(2**64), "9" * 5000, "%00", "\xb2"]
        cursors = ["", "x", "a" * 513, "%00", "Li4%2FLi4=", "%F0%9F%98%80", "null"]
        found += [_query(path, f"limit={value}", 422, "invalid_input", "/limit") for value in limits if value.isascii()]
        found += [_query(path, f"cursor={value}", 422, "invalid_input", "/cursor") for value in cursors]
        found += [
            _query(path, "limit=1&limit=2", 422, "invalid_input", "/limit"),
            _query(path, "limit=%ff", 400, "bad_request"),
            _query(path, "&".join(f"a{number}=" for number in range(101)), 400, "bad_request"),
            _query(path, "nobody=asked&=&&==", 200, None),
        ]
    found.append(_query("/api/v1/runs", f"session_id={'a' * 65}", 422, "invalid_input", "/session_id"))
    for template in ("/api/v1/sessions/{session_id}", "/api/v1/runs/{run_id}/stream"):
        path = template.replace("{session_id}", UNKNOWN).replace("{run_id}", UNKNOWN)
        for value in ("-1", "x", "", str(2**53 + 1), str(2**64), "1e-3"):
            found.append(Ask("GET", f"{path}?after={value}", 422, "invalid_input", template=template, pointer="/after"))
    return found


def _query(path: str, query: str, status: int, code: str | None, pointer: str | None = None) -> Ask:
    return Ask("GET", f"{path}?{query}", status, code, template=path, pointer=pointer)


HOSTED = ["/health", "/api/v1/sessions"]
BAD_HOSTS = ["[::1", "a b", "a@b/c", "a..b", "a:b", "a:65536", "a,b"]


def heads() -> list[Ask]:
    """Return requests whose header is larger than the gateway takes, or just as large."""
    many = tuple((f"x-{number}", "") for number in range(110))
    long = (("x-long", "a" * 17_000),)
    return [
        *(Ask("GET", path, 431, "headers_too_large", headers=fields) for path in HOSTED for fields in (many, long)),
        Ask("GET", "/health", 200, headers=many[:80]),
        Ask("GET", "/health", 200, headers=(("x-long", "a" * 15_000),)),
    ]


def paths() -> list[Ask]:
    """Return paths and methods that no route has."""
    nowhere = [
        *("/", "/nope", "/api", "/api/v1", "/api/v1/", "//", "//api/v1/runs", "/api/v1//runs", "/api/v1/runs/"),
        *("/health/", "/HEALTH", "/api/v1/skills/", "/api/v1/skills/a/b", "/%2fhealth", "/..."),
        *("/api%2Fv1%2Fruns", "/ws", f"/{LONG[1:]}", "/" * 8192, "/api/v1/runs;x=1"),
    ]
    refused = [
        ("/%ff", 400, "bad_request"),
        ("/api/v1/runs/%c0%ae", 400, "bad_request"),
        *((path, 400, "bad_request") for path in ("/api/v1/../v1/runs", "/health%00", "/health%0d%0a", "/health/.")),
        *((path, 414, "target_too_long") for path in (f"/{LONG}", "/" * 8193, f"/health?{LONG}")),
    ]
    names = ["nope", "a%2Fb", "%F0%9F%98%80", LONG[:4096], "calculator%20", "CALCULATOR"]
    skill = "/api/v1/skills/{name}"
    return [
        *(Ask("GET", path, 404, "not_found") for path in nowhere),
        *(Ask("GET", path, status, code) for path, status, code in refused),
        *(Ask("GET", f"/api/v1/skills/{name}", 404, "skill_not_found", template=skill) for name in names),
        Ask("GET", "/api/v1/skills/%ff", 400, "bad_request", template=skill),
        Ask(
            "GET",
            "/api/v1/sessions",
            403,
            "forbidden",
            headers=(("host", "evil.example"),),
            template="/api/v1/sessions",
        ),
        *(Ask("GET", path, 400, "bad_request", headers=(("host", host),)) for path in HOSTED for host in BAD_HOSTS),
        Ask("GET", "/api/v1/sessions", 200, headers=(("origin", "http://evil.example"),), template="/api/v1/sessions"),
    ]


def methods() -> list[Ask]:
    """Return methods that a path does not have; HEAD goes wherever GET does."""
    run = f"/api/v1/runs/{UNKNOWN}"
    allowed = {
        CHAT: "POST",
        STREAM: "POST",
        f"{run}/cancel": "POST",
        run: "GET, HEAD",
        "/health": "GET, HEAD",
        "/api/v1/sessions": "GET, HEAD",
        f"/api/v1/sessions/{UNKNOWN}": "DELETE, GET, HEAD",
    }
    every = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    found = [
        Ask(method, path, 405, "method_not_allowed", allow=allow)
        for path, allow in allowed.items()
        for method in every
        if method not in allow
    ]
    return [*found, Ask("HEAD", "/health", 200), Ask("HEAD", run, 404), Ask("HEAD", "/nope", 404)]


def table() -> list[Ask]:
    bodies = (malformed, misfits, contents, sizes, media, keys)
    with_body = [asked for make in bodies for path in FIELDS for asked in make(path)]
    return [*with_body, *stream_misfits(), *places(), *ids(), *queries(), *paths(), *heads(), *methods()]


TABLE = table()


@pytest.fixture(scope="module", params=KINDS)
def running(request, tmp_path_factory):
    kind = request.param
    workers = 0 if kind.startswith("hypercorn") else None
    with server(kind, cwd=tmp_path_factory.mktemp(kind), workers=workers) as found:
        yield found


def test_each_hostile_request_gets_its_declared_answer_and_the_gateway_is_none_the_worse(running, subtests):
    declared = described(running.port)
    ask_all(running, subtests, declared)
    grown = levels_off(running.pid, lambda: ask_all(running, subtests, declared), GROWTH_BYTES)
    assert grown[-1] < GROWTH_BYTES, grown
    assert calculates(running.port)
    assert "Traceback" not in running.log


def ask_all(running, subtests, declared: dict[tuple[str, str], set[str]]) -> None:
    for asked in TABLE:
        with subtests.test(str(asked)):
            answer = exchange(running.port, asked)
            if answer.status == asked.status == 431 and not answer.body:
                continue  # granian counts headers itself, and refuses in no words
            check(asked, answer)
            if asked.template is not None:
                assert str(asked.status) in declared[asked.method, asked.template]


def described(port: int) -> dict[tuple[str, str], set[str]]:
    """Return the statuses that the gateway's own description declares for each method and path."""
    document = json.loads(exchange(port, Ask("GET", "/openapi.json", 200)).body)
    return {
        (method.upper(), path): set(operation["responses"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def test_a_place_behind_the_end_of_a_run_is_204_as_declared(running):
    reply = json.loads(exchange(running.port, post(CHAT, "", 200, None, message(CHAT))).body)
    template = "/api/v1/runs/{run_id}/stream"
    for after in (10_000, 2**53):
        asked = Ask("GET", f"{template.replace('{run_id}', reply['run_id'])}?after={after}", 204)
        answer = exchange(running.port, asked)
        assert (answer.status, answer.body) == (204, b"")
    assert "204" in described(running.port)["GET", template]


BAD_CREDENTIALS = {
    "none": {},
    "a wrong key": {"x-api-key": "wrong"},
    "an empty key": {"x-api-key": ""},
    "a very long key": {"x-api-key": "k" * 8000},
    "a key in Latin-1": {"x-api-key": "\xff"},
    "a wrong bearer": {"authorization": "Bearer wrong"},
    "no bearer": {"authorization": "Bearer"},
    "another scheme": {"authorization": "Basic c2VjcmV0"},
    "a key in the query": {},
    "the right key beside a wrong bearer": {"authorization": "Bearer wrong", "x-api-key": "correct-horse-battery"},
}


@pytest.mark.parametrize(("method", "path", "body"), [("GET", "/api/v1/sessions", b""), ("POST", CHAT, b"{")])
def test_a_caller_without_the_key_is_refused_and_told_how_to_come_in(tmp_path, subtests, method, path, body):
    env = {"ARGENTOR_AUTH_API_KEYS": "ops:correct-horse-battery"}
    with server("hypercorn-asyncio", cwd=tmp_path, workers=0, env=env) as running:
        for name, headers in BAD_CREDENTIALS.items():
            query = "?api_key=correct-horse-battery" if "query" in name else ""
            asked = Ask(method, path + query, 401, "unauthenticated", body, tuple(headers.items()))
            with subtests.test(f"{asked} {name}"):
                answer = exchange(running.port, asked)
                check(asked, answer)
                assert answer.headers["www-authenticate"] == 'Bearer realm="argentor"'
        asked = Ask("GET", "/api/v1/sessions", 200, headers=(("authorization", "bearer correct-horse-battery"),))
        check(asked, exchange(running.port, asked))
