"""`python -m bench.launched MODULE:NAME FD`: serve any ASGI callable with the gateway's own launcher, for comparison.

What has a `drain` of its own is served as it is; a bare callable gets one that has nothing to wait for.
"""

import os
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from argentor_asgi.compose import gateway
from argentor_asgi.config import load
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.drain import Drain
from argentor_asgi.server.launcher import serve
from bench.calls import App

OURS = "argentor_asgi:app"
DRAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Launched:
    """A callable as the launcher takes it."""

    app: App
    drain: Drain


def loaded(path: str) -> Any:  # noqa: ANN401  whatever the module has under that name
    """Return what `module:name` names, as the launcher takes it."""
    if path == OURS:
        return gateway()
    module, _, name = path.partition(":")
    found = getattr(import_module(module), name)
    return found if hasattr(found, "drain") else Launched(found, Drain(clock=SystemClock(), drain_s=DRAIN_S))


if __name__ == "__main__":
    configured = load(os.environ, Path.cwd())
    sys.exit(serve(loaded(sys.argv[1]), bind=[f"fd://{sys.argv[2]}"], config=configured))
