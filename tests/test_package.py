"""`argentor_asgi` itself: what its import costs and promises, and how servers and people find their way in."""

import inspect
import os
import runpy
import subprocess
import sys
from importlib.metadata import version

import pytest

import argentor_asgi

CAN_RUN_S = 30


def python(directory, script, **environ):
    """Run a script with our interpreter and return what it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ARGENTOR_")}
    done = subprocess.run(  # noqa: S603  our own interpreter, our own script
        [sys.executable, "-c", script],
        cwd=directory,
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        check=True,
        timeout=CAN_RUN_S,
    )
    return done.stdout


IMPORT = """
import sys, os
opened, asked = [], []
class Watched(type(os.environ)):
    def __getitem__(self, name):
        asked.append(name)
        return super().__getitem__(name)
os.environ.__class__ = Watched
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import argentor_asgi
print([name for name in ("msgspec", "orjson", "asyncio", "argentor_asgi.compose") if name in sys.modules])
print([name for name in opened if not name.endswith((".py", ".pyc")) and ".pyc." not in name])
print(asked)
"""

SERVE = """
import asyncio, argentor_asgi
told = []
async def main():
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    async def receive():
        return events.pop(0)
    async def send(message):
        told.append(message)
    await argentor_asgi.app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
asyncio.run(main())
print(*(message["type"] for message in told), told[0].get("message", ""))
"""


def test_importing_it_loads_nothing_heavy_and_reads_neither_files_nor_the_environment(tmp_path):
    (tmp_path / "argentor.toml").write_text("nonsense")
    assert python(tmp_path, IMPORT, ARGENTOR_NONSENSE="1").splitlines() == ["[]", "[]", "[]"]


@pytest.mark.slow
def test_the_app_is_made_at_its_first_event_from_the_file_where_it_is_started(tmp_path):
    (tmp_path / "argentor.toml").write_text('[storage]\nurl = "memory://"\n')
    assert python(tmp_path, SERVE).split() == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    told = python(tmp_path, SERVE, ARGENTOR_NONSENSE="1")
    assert told.startswith("lifespan.startup.failed ")
    assert "ARGENTOR_NONSENSE" in told


LATE = [
    "httpx2",
    "httpcore2",
    "h11",
    "truststore",
    "mcp",
    "jsonschema",
    "opentelemetry",
    "prometheus_client",
    "argentor_asgi.net.http",
    "argentor_asgi.net.pool",
    "argentor_asgi.net.addresses",
    "argentor_asgi.doctor",
    "argentor_asgi.protocol.wires",
    "argentor_asgi.protocol.sse_reader",
    "argentor_asgi.agent.providers.build",
    "argentor_asgi.agent.providers.hosted",
    "argentor_asgi.agent.resilience",
    "argentor_asgi.agent.response_cache",
    "argentor_asgi.agent.delegate",
    "argentor_asgi.agent.mcp.source",
    "argentor_asgi.agent.guardrails.guard",
    "argentor_asgi.agent.guardrails.pii",
    "argentor_asgi.agent.guardrails.injection",
    "argentor_asgi.agent.guardrails.rules",
    "argentor_asgi.agent.opt_in_skills.http_fetch",
    "argentor_asgi.agent.opt_in_skills.file_read",
    "argentor_asgi.agent.opt_in_skills.regex",
]
"""What a gateway of the built-in model has no use for, and therefore does not load."""
FILES = ["sqlite3", "argentor_asgi.sessions.sqlite", "argentor_asgi.sessions.note_statements"]
"""What keeps a gateway's data in a file, and finds notes there."""
LOADED = "\nprint([name for name in {names!r} if name in sys.modules])"


@pytest.mark.slow
def test_a_gateway_of_the_built_in_model_loads_nothing_of_hosted_ones_guardrails_and_mcp(tmp_path):
    script = f"{SERVE}import sys{LOADED.format(names=[*LATE, *FILES])}"
    kept = python(tmp_path, script).splitlines()
    assert kept == ["lifespan.startup.complete lifespan.shutdown.complete ", str(FILES)]
    assert python(tmp_path, script, ARGENTOR_STORAGE_URL="memory://").splitlines()[1] == "[]"


@pytest.mark.slow
def test_the_names_of_what_is_loaded_late_are_right(tmp_path):
    script = "import importlib.util" + LOADED.format(names=LATE).replace(
        "name in sys.modules", "not importlib.util.find_spec(name)"
    )
    assert python(tmp_path, script).splitlines() == ["[]"]


def test_the_app_is_a_coroutine_function_in_the_modules_dictionary_where_hypercorn_looks():
    assert inspect.iscoroutinefunction(vars(argentor_asgi)["app"])


def test_create_app_is_imported_when_it_is_asked_for():
    from argentor_asgi.compose import create_app  # noqa: PLC0415  what it must be the same as

    vars(argentor_asgi).pop("create_app", None)
    assert argentor_asgi.create_app is create_app
    assert vars(argentor_asgi)["create_app"] is create_app


def test_everything_that_is_promised_is_there_and_nothing_else_is_made_up():
    assert all(hasattr(argentor_asgi, name) for name in argentor_asgi.__all__)
    with pytest.raises(AttributeError, match=r"module 'argentor_asgi' has no attribute 'nonsense'"):
        _ = argentor_asgi.nonsense


def test_the_version_is_that_of_the_distribution():
    assert argentor_asgi.__version__ == version("argentor-asgi")


def test_python_dash_m_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["argentor", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("argentor_asgi", run_name="__main__")
    assert (ended.value.code, capsys.readouterr().out) == (0, f"argentor-asgi {argentor_asgi.__version__}\n")


def test_importing_the_command_runs_nothing():
    assert "main" in runpy.run_module("argentor_asgi", run_name="imported")
