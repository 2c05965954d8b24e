"""Model servers with the real wire formats, started for tests on free loopback ports and ended by their id.

    with aimock(tmp_path, [{"match": {"userMessage": "hi"}, "response": {"content": "hello"}}]) as models:
        Llm(provider="openai", model="m", api_key=Secret("k"), base_url=models.url)
        models.journal()                       # every request as it came, oldest first

    with llmock() as models:
        models.script({"type": "stream_fault", ...})      # what the next request meets

`.ci/components` installs both. Where one is missing the test is left out and says how to get it; in CI it fails.
"""

import http.client
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

COMPONENTS = Path(os.environ.get("TEST_COMPONENTS") or Path(__file__).parents[1] / ".components")
START_S = 30.0
STOP_S = 5.0
POLL_S = 0.02
LISTENS = re.compile(r"(?:listening|running) on http://127\.0\.0\.1:([0-9]+)")


@dataclass
class ModelServer:
    """One running server: where it is, and what it has seen."""

    process: subprocess.Popen
    port: int
    journal_path: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON of one answer of the server's own control surface."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(
                method, path, None if body is None else json.dumps(body), {"content-type": "application/json"}
            )
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status < 300, (answer.status, text)
            return json.loads(text) if text else None
        finally:
            connection.close()

    def journal(self) -> list[dict]:
        """Return every request that the server has seen, oldest first."""
        seen = self.ask("GET", self.journal_path)
        return seen["requests"] if isinstance(seen, dict) else seen

    def script(self, *behaviours: dict) -> None:
        """Queue what the next requests meet (llmock): each has a `type`, such as `stream_fault`."""
        self.ask("POST", "/_llmock/scenario", {"behaviors": list(behaviours)})


@contextmanager
def aimock(directory: Path, fixtures: Sequence[dict], *arguments: str) -> Iterator[ModelServer]:
    """Run aimock on these fixtures; a request that none matches is an error."""
    script = COMPONENTS / "node_modules/@copilotkit/aimock/dist/cli.js"
    node = COMPONENTS / "node"
    _need("aimock", node, script)
    file = directory / "aimock.json"
    file.write_text(json.dumps({"fixtures": list(fixtures)}))
    command = [node.read_text().strip(), str(script), "-p", "0", "-f", str(file), "--strict", *arguments]
    with _running(command, directory / "aimock.log", {}) as (process, port):
        yield ModelServer(process, port, "/__aimock/journal")


@contextmanager
def llmock(directory: Path, *arguments: str) -> Iterator[ModelServer]:
    """Run llmock; it answers everything, and breaks what it is told to break."""
    program = COMPONENTS / "python/bin/python"
    _need("llmock", program)
    command = [str(program), "-m", "llmock.cli", "serve", "-p", "0", *arguments]
    with _running(command, directory / "llmock.log", {"PYTHONWARNINGS": "ignore"}) as (process, port):
        yield ModelServer(process, port, "/_llmock/requests")


def _need(name: str, *files: Path) -> None:
    if not all(file.exists() for file in files):
        pytest.skip(f"{name} is not installed: run .ci/components")


@contextmanager
def _running(command: Sequence[str], log: Path, env: dict[str, str]) -> Iterator[tuple[subprocess.Popen, int]]:
    """Start the command, wait for the line in which it says where it listens, and end it."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **env})  # noqa: S603  a component of the tests
    try:
        yield process, _port(process, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)


def _port(process: subprocess.Popen, log: Path) -> int:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        text = log.read_text(errors="replace")
        if found := LISTENS.search(text):
            return int(found[1])
        if process.poll() is not None:
            break
        time.sleep(POLL_S)
    raise AssertionError(f"{process.args} did not start: {log.read_text(errors='replace')[-2000:]}")
