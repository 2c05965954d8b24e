"""A hand-written ASGI app that holds gateways under prefixes of its own, as a program that embeds them would.

It speaks no lifespan for them, so each starts at its first request. Whatever else is asked answers `parent`.
"""


def parent(mounted):
    """Return the app that serves each of `mounted` under its prefix."""

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        prefix = f"/{scope['path'].split('/')[1]}"
        if prefix in mounted:
            below = {**scope, "root_path": scope.get("root_path", "") + prefix}
            return await mounted[prefix](below, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        return await send({"type": "http.response.body", "body": b"parent"})

    return app


async def _lifespan(receive, send):
    """Start and stop the parent alone."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
