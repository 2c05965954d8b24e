"""The benches' model server for tests: a process of its own, which streams as it is told (`bench.modelled`).

with model_process() as url:
    ...                                    # "say 40 100 NAME" brings 40 pieces with NAME, 100 a second
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
STOP_S = 5.0


@contextmanager
def model_process() -> Iterator[str]:
    """Run a model server; its socket is bound before it begins, so that whoever asks early waits."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as bound:
        process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [sys.executable, "-m", "bench.modelled", str(bound.fileno())],
            pass_fds=[bound.fileno()],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            process.terminate()
            process.wait(STOP_S)
