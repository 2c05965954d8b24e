"""An AI-agent gateway in one hand-written ASGI 3 callable.

What runs: `argentor_asgi.app`, made on first access by `compose.create_app()`; importing the package reads no file and
no environment. A request goes server -> `asgi` (scope dispatch, router, binder) -> `api` (a few lines a route) ->
`gateway.dispatch` (the one way into the agent) -> `agent.runner` (the turn loop) -> `sessions` (what was said).

A new route is a function under `api/`, a new skill a function given to `create_app(skills=[...])`, a new store one file
in `sessions/` that passes `tests/contracts/`. Imports go down only; `lint-imports` holds the order.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argentor_asgi.asgi.types import App
    from argentor_asgi.compose import create_app

    app: App

__version__ = "0.1.0"
__all__ = ["__version__", "app", "create_app"]


def __getattr__(name: str) -> object:
    """Make `app` and `create_app` on first access, so that importing the package stays cheap and reads nothing."""
    if name == "create_app":
        from argentor_asgi.compose import create_app  # noqa: PLC0415  lazily: `import argentor_asgi` stays cheap

        globals()[name] = create_app
        return create_app
    if name == "app":
        from argentor_asgi.compose import create_app  # noqa: PLC0415  as above

        globals()[name] = made = create_app()
        return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
