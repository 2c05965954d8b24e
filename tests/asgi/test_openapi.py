import uuid
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from argentor_asgi.asgi.openapi import document
from argentor_asgi.asgi.request import Request
from argentor_asgi.asgi.response import EventStream, Reply, Response
from argentor_asgi.asgi.route import Header, route, rows_of, socket
from argentor_asgi.asgi.websocket import WebSocket
from argentor_asgi.errors import ConfigError, SessionNotFound
from argentor_asgi.protocol.schema import Meta


@dataclass(frozen=True, slots=True)
class Inner:
    n: Annotated[int, Meta(ge=1)]


@dataclass(frozen=True, slots=True)
class Outer:
    """What goes in and out."""

    inner: Inner
    text: str = ""


class Services: ...


@route("POST", "/things/{thing_id}", needs="things:write", errors=(SessionNotFound,), status=201, tags=("things",))
async def make(  # noqa: PLR0917  one of each kind
    services: Services,
    thing_id: uuid.UUID,
    body: Outer,
    key: Annotated[str | None, Header("Idempotency-Key"), Meta(max_length=9)] = None,
    limit: Annotated[int, Meta(ge=1, le=5)] = 3,
    name: str = "",
) -> Outer:
    """Make a thing.

    With its inner one.
    """


@route("GET", "/things/{thing_id}", needs=None)
async def read(thing_id: str, request: Request, must: float, may: int | None) -> Reply[list[Inner]] | None:
    """Read it."""


@route("GET", "/stream", needs=None)
async def stream(body: Inner | None) -> EventStream: ...


@route("GET", "/raw", needs=None, produces="text/plain", also=(503,))
async def raw() -> Response: ...


@route("GET", "/both", needs=None, also=(503,))
async def both() -> Inner | Outer | EventStream: ...


@route("DELETE", "/raw", needs=None)
async def drop() -> None: ...


@socket("/ws", needs="chat", tags=("chat",))
async def talk(websocket: WebSocket) -> None:
    """Talk."""


HANDLERS = (make, read, stream, raw, both, drop, talk)


def described(*handlers: Any) -> Any:
    rows = [row for handler in handlers for row in rows_of(handler)]
    return document(rows, title="t", version="1.2", description="d")


def operation(handler: Any) -> Any:
    (path,) = described(handler)["paths"].values()
    (found,) = path.values()
    return found


def test_the_document_is_valid_openapi_3_1():
    made = described(*HANDLERS)
    OpenAPIV31SpecValidator(made).validate()
    assert made["openapi"] == "3.1.0"
    assert made["info"] == {"title": "t", "version": "1.2", "description": "d"}
    assert sorted(made["paths"]) == ["/both", "/raw", "/stream", "/things/{thing_id}"]
    assert sorted(made["paths"]["/raw"]) == ["delete", "get"]


def test_a_document_of_nothing_is_valid_too():
    OpenAPIV31SpecValidator(document([], title="t", version="1")).validate()


def test_the_words_are_those_of_the_docstring():
    found = operation(make)
    assert (found["operationId"], found["summary"], found["description"], found["tags"]) == (
        "make",
        "Make a thing.",
        "With its inner one.",
        ["things"],
    )


def test_parameters_come_from_the_signature():
    by_name = {one["name"]: one for one in operation(make)["parameters"]}
    assert list(by_name) == ["thing_id", "idempotency-key", "limit", "name"]
    assert by_name["thing_id"] == {
        "name": "thing_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "format": "uuid"},
    }
    assert (by_name["idempotency-key"]["in"], by_name["idempotency-key"]["required"]) == ("header", False)
    assert by_name["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 5, "default": 3}
    assert [one["required"] for one in operation(read)["parameters"]] == [True, True, False]


def test_bodies_and_answers_share_the_components_of_their_dataclasses():
    made = described(make)
    found = made["paths"]["/things/{thing_id}"]["post"]
    ref = {"$ref": "#/components/schemas/Outer"}
    assert found["requestBody"] == {"required": True, "content": {"application/json": {"schema": ref}}}
    assert found["responses"]["201"]["content"] == {"application/json": {"schema": ref}}
    assert set(made["components"]["schemas"]) == {"Outer", "Inner", "Problem", "Detail"}
    assert operation(stream)["requestBody"]["required"] is False


ALWAYS = {"400", "414", "431", "500", "503", "504", "505"}
"""The refusals of any request, whatever it asks for."""


def test_answers_follow_the_return_annotation():
    assert operation(read)["responses"]["200"]["content"]["application/json"]["schema"]["type"] == "array"
    assert "content" not in operation(read)["responses"]["204"]
    assert operation(stream)["responses"]["200"]["content"] == {"text/event-stream": {}}
    assert operation(raw)["responses"]["200"]["content"] == {"text/plain": {}}
    assert len(operation(both)["responses"]["503"]["content"]["application/json"]["schema"]["anyOf"]) == 2
    assert list(operation(both)["responses"]["200"]["content"]) == ["application/json", "text/event-stream"]
    assert set(operation(drop)["responses"]) == {"204"} | ALWAYS


def test_a_status_that_is_both_an_answer_and_a_refusal_lists_both():
    assert set(operation(raw)["responses"]["503"]["content"]) == {"text/plain", "application/problem+json"}


@pytest.mark.parametrize(
    ("handler", "statuses"),
    [
        (make, {"401", "403", "404", "408", "413", "415", "422", "429"}),
        (read, {"422"}),
        (stream, {"408", "413", "415", "422"}),
        (raw, set()),
    ],
)
def test_every_refusal_that_can_happen_is_listed(handler: Any, statuses: set[str]):
    found = {status for status in operation(handler)["responses"] if status >= "400"}
    assert found == statuses | ALWAYS


def test_a_refusal_lists_its_codes_under_one_schema():
    found = operation(make)["responses"]["400"]
    assert found["content"] == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for code in ("`invalid_path`", "`malformed_json`", "`bad_request`"):
        assert code in found["description"]


def test_public_routes_say_so_and_others_name_both_ways_in():
    made = described(make, read)
    assert made["paths"]["/things/{thing_id}"]["get"]["security"] == []
    assert made["paths"]["/things/{thing_id}"]["post"]["security"] == [{"bearerAuth": []}, {"apiKey": []}]
    assert set(made["components"]["securitySchemes"]) == {"bearerAuth", "apiKey"}


def test_no_operation_requires_a_key_where_callers_without_one_are_served():
    rows = [row for handler in (make, read) for row in rows_of(handler)]
    made = document(rows, title="t", version="1", anonymous=True)
    assert made["paths"]["/things/{thing_id}"]["get"]["security"] == []
    assert made["paths"]["/things/{thing_id}"]["post"]["security"] == [{}, {"bearerAuth": []}, {"apiKey": []}]


def test_sockets_stand_beside_the_paths():
    made = described(*HANDLERS)
    assert made["x-websockets"] == {
        "/ws": {"summary": "Talk.", "tags": ["chat"], "security": [{"bearerAuth": []}, {"apiKey": []}]}
    }
    assert "/ws" not in made["paths"]


def test_operation_ids_are_unique():
    def named(template: str) -> Any:
        @route("GET", template, needs=None)
        async def same() -> None: ...

        return same

    made = described(named("/a"), named("/b"), named("/c"))
    assert [path["get"]["operationId"] for path in made["paths"].values()] == ["same", "same_2", "same_3"]


def test_a_signature_that_cannot_be_bound_is_refused_here_too():
    @route("GET", "/x", needs=None)
    async def wrong(x) -> None: ...

    with pytest.raises(ConfigError):
        described(wrong)
