"""Several gateways in one process, each under a prefix of its own: `HOUSES` has their settings as JSON.

    HOUSES='{"plain": {"llm_provider": "openai", ...}}'      # by the names of the variables, lower-case

Each keeps what is said in `<name>.db` in the working directory, and starts at its first request.
"""

import json
import os
from pathlib import Path

from argentor_asgi import create_app
from argentor_asgi.config import load


def made(name, settings):
    """Return the gateway that these settings describe."""
    env = {f"ARGENTOR_{key.upper()}": value for key, value in settings.items()}
    return create_app(load({"ARGENTOR_STORAGE_URL": f"sqlite:///{name}.db", **env}, Path.cwd()))


HOUSES = {f"/{name}": made(name, settings) for name, settings in json.loads(os.environ["HOUSES"]).items()}


async def app(scope, receive, send):
    """Serve the gateway that the path begins with, and `parent` elsewhere."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    prefix = f"/{scope['path'].split('/')[1]}"
    if prefix in HOUSES:
        return await HOUSES[prefix]({**scope, "root_path": scope.get("root_path", "") + prefix}, receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
    return await send({"type": "http.response.body", "body": b"parent"})


async def lifespan(receive, send):
    """Start and stop the parent alone."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
