"""A route is declared once, on its handler; router, binder, guards, OpenAPI and metrics read that one row.

`@route` and `@socket` leave the handler as it is and attach a declaration to it. `routes_in` turns declarations into
rows, fresh ones at each call, so that two apps in one process do not share counters.
"""

import inspect
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeAlias, TypeVar

from argentor_asgi.errors import GatewayError

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds, in seconds and inclusive, of the buckets that a row counts in; one more bucket has no bound."""

FIRST_S = BUCKETS_S[0]
"""The upper bound of the first of them."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""The methods that a route may be declared for."""

OTHER = "OTHER"
"""The method that stands in for all others where something is counted by method."""

UNMATCHED = "unmatched"
"""The template that stands in for all paths without a route."""

Handler: TypeAlias = Callable[..., Awaitable[Any]]
H = TypeVar("H", bound=Handler)
_ATTRIBUTE = "argentor_declarations"


@dataclass(frozen=True, slots=True)
class Header:
    """Marks a parameter as a header: `Annotated[str | None, Header("idempotency-key")]`, lower-case name."""

    name: str


@dataclass(frozen=True, slots=True)
class Declaration:
    """What `@route` or `@socket` says; `method` is None for a socket."""

    method: str | None
    template: str
    needs: str | None
    errors: tuple[type[GatewayError], ...] = ()
    status: int = 200
    also: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    produces: str = "application/json"
    even_draining: bool = False


@dataclass(slots=True, eq=False)
class Route:
    """One method on one path, and what it has answered so far.

    `needs`: the scope that its caller must hold, None for a public route. `even_draining`: whether it answers while the
    gateway stops. `statuses`: answers by status; 499 counts
    the clients that left before theirs. `buckets`: answers by the seconds that they took to be ready, not cumulative,
    one more than `BUCKETS_S`; `seconds`: their sum. A stream is counted when it starts.
    """

    method: str
    template: str
    handler: Handler
    needs: str | None
    errors: tuple[type[GatewayError], ...] = ()
    status: int = 200
    also: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    produces: str = "application/json"
    even_draining: bool = False
    summary: str = ""
    description: str = ""
    statuses: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    seconds: float = 0.0
    type_field: tuple[bytes, bytes] = field(init=False)

    def __post_init__(self) -> None:
        """Prepare the header field that every plain answer has."""
        self.type_field = (b"content-type", self.produces.encode("latin-1"))

    def count(self, status: int, seconds: float) -> None:
        """Count one answer."""
        self.statuses[status] += 1
        # PERF: nearly all answers are in the first bucket.
        self.buckets[0 if seconds <= FIRST_S else bisect_left(BUCKETS_S, seconds)] += 1
        self.seconds += seconds


@dataclass(slots=True, eq=False)
class Socket:
    """One WebSocket endpoint. `opened` and `closed` count accepted sockets."""

    template: str
    handler: Handler
    needs: str | None
    tags: tuple[str, ...] = ()
    summary: str = ""
    description: str = ""
    opened: int = 0
    closed: int = 0


def route(
    method: str,
    template: str,
    *,
    needs: str | None,
    errors: Sequence[type[GatewayError]] = (),
    status: int = 200,
    also: Sequence[int] = (),
    tags: Sequence[str] = (),
    produces: str = "application/json",
    even_draining: bool = False,
) -> Callable[[H], H]:
    """Declare that a handler answers `method` on `template`; a handler may be declared for several.

    `needs=None` makes the route public, on purpose. `status`: of a successful answer; `also`: others that come with
    the same shape, by a `Reply`. `produces`: its media type. `even_draining`: answer while the gateway stops as well,
    as public routes do. A declaration that cannot work is found at build.
    """
    return _declare(
        Declaration(method, template, needs, tuple(errors), status, tuple(also), tuple(tags), produces, even_draining)
    )


def socket(template: str, *, needs: str | None, tags: Sequence[str] = ()) -> Callable[[H], H]:
    """Declare that a handler serves WebSockets on `template`; otherwise as `route`."""
    return _declare(Declaration(None, template, needs, tags=tuple(tags)))


def _declare(declaration: Declaration) -> Callable[[H], H]:
    def attach(handler: H) -> H:
        # Decorators apply from the bottom up, and the list reads from the top down.
        setattr(handler, _ATTRIBUTE, (declaration, *getattr(handler, _ATTRIBUTE, ())))
        return handler

    return attach


def routes_in(*modules: ModuleType) -> list[Route | Socket]:
    """Return a fresh row for each declaration in `modules`, in order; what a module merely imports is not its own."""
    return [
        row
        for module in modules
        for value in vars(module).values()
        if getattr(value, "__module__", None) == module.__name__
        for row in rows_of(value)
    ]


def rows_of(handler: Handler) -> Sequence[Route | Socket]:
    """Return a fresh row for each declaration on `handler`; none when it has none."""
    return [_row(handler, declaration) for declaration in getattr(handler, _ATTRIBUTE, ())]


def unmatched() -> Route:
    """Return the row that counts what no route answers, so that no bad path or method ever makes a series."""
    return Route(OTHER, UNMATCHED, _nothing, None, summary="Whatever no route answers.")


async def _nothing() -> None:
    """Stand in for a handler: nothing is ever routed here."""


def _row(handler: Handler, said: Declaration) -> Route | Socket:
    summary, _, description = (word.strip() for word in (inspect.getdoc(handler) or "").partition("\n"))
    if said.method is None:
        return Socket(said.template, handler, said.needs, said.tags, summary, description)
    return Route(
        said.method,
        said.template,
        handler,
        said.needs,
        errors=said.errors,
        status=said.status,
        also=said.also,
        tags=said.tags,
        produces=said.produces,
        even_draining=said.even_draining,
        summary=summary,
        description=description,
    )
