"""The vocabulary of ASGI 3 (asgiref `specs/main.rst`, `specs/www.rst`): what a server hands over and what it takes."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
"""One connection as the server describes it: `type` is `http`, `websocket` or `lifespan`."""

Message: TypeAlias = MutableMapping[str, Any]
"""One event, in or out, named by its `type`."""

Receive: TypeAlias = Callable[[], Awaitable[Message]]
"""Waits for the next event of the connection."""

Send: TypeAlias = Callable[[Message], Awaitable[None]]
"""Hands one event to the server; waiting in it is the server's backpressure."""

App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An application: called once for each connection."""

Middleware: TypeAlias = Callable[[App], App]
"""Wraps an application in another; composed once, at start."""

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Header fields to send, lower-case names."""
