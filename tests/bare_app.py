"""A bare ASGI app that says the values of `X-A` that reach it, to see what a server lets through by itself."""


async def app(scope, receive, send):
    """Answer any request with what came of one header field."""
    if scope["type"] == "lifespan":
        while True:
            said = (await receive())["type"]
            await send({"type": f"{said}.complete"})
            if said == "lifespan.shutdown":
                return
    body = b"".join(value for name, value in scope["headers"] if name == b"x-a")
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})
