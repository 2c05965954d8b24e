"""An AI-agent gateway in one hand-written ASGI 3 callable.

What runs: `argentor_asgi.app`, whose gateway is made by `create_app()` at its first event; importing the package reads
no file and no environment. A request goes server -> `asgi` (scope dispatch, router, binder) -> `api` (a few lines a
route) -> `gateway.dispatch` (the one way into the agent) -> `agent.runner` (the turn loop) -> `sessions` (what was
said).

A new route is a function given to `create_app(routes=[...])`, a new skill one given to `create_app(skills=[...])`, a
new store one class that passes `tests/contracts/store.py`. Imports go down only; `lint-imports` holds the order.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argentor_asgi.asgi.types import App, Receive, Scope, Send
    from argentor_asgi.compose import create_app
    from argentor_asgi.ops.hooks import DrainHook

__version__ = "0.1.0"
__all__ = ["DrainHook", "__version__", "app", "create_app"]

_made: "App | None" = None


async def app(scope: "Scope", receive: "Receive", send: "Send") -> None:
    """Serve one ASGI connection with the gateway that `argentor.toml` and the environment describe.

    The gateway is made at the first event; a configuration that cannot work is a failed lifespan startup with one line.
    It is a plain function because hypercorn finds `app` in the module's dictionary, where no `__getattr__` is asked.
    """
    global _made  # noqa: PLW0603  the one gateway of `hypercorn argentor_asgi:app`
    if _made is None:
        from argentor_asgi.compose import configured_app  # noqa: PLC0415  lazily: the import stays cheap

        _made = configured_app()
    await _made(scope, receive, send)


def __getattr__(name: str) -> object:
    """Import `create_app` and `DrainHook` on first access, so that importing the package stays cheap."""
    if name == "DrainHook":
        from argentor_asgi.ops.hooks import DrainHook  # noqa: PLC0415  as above

        globals()[name] = DrainHook
        return DrainHook
    if name == "create_app":
        from argentor_asgi.compose import create_app  # noqa: PLC0415  as above

        globals()[name] = create_app
        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
