"""Several gateways in one process, each under a prefix of its own: `HOUSES` has their settings as JSON.

    HOUSES='{"plain": {"llm_provider": "openai", ...}}'      # by the names of the variables, lower-case

Each keeps what is said in `<name>.db` in the working directory, and starts at its first request.
"""

import json
import os
from pathlib import Path

from parent_app import parent

from argentor_asgi import create_app
from argentor_asgi.config import load


def made(name, settings):
    """Return the gateway that these settings describe."""
    env = {f"ARGENTOR_{key.upper()}": value for key, value in settings.items()}
    return create_app(load({"ARGENTOR_STORAGE_URL": f"sqlite:///{name}.db", **env}, Path.cwd()))


HOUSES = {f"/{name}": made(name, settings) for name, settings in json.loads(os.environ["HOUSES"]).items()}
app = parent(HOUSES)
