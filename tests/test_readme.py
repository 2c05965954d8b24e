"""The README is true: its tables are the code's, and its examples run."""

import json
import re
from pathlib import Path

import pytest
from asgi_driver import http, lifespan

from argentor_asgi.asgi.route import Route
from argentor_asgi.compose import rows
from argentor_asgi.config import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(name):
    return README.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- /{name} -->")[0]


def shown(row):
    method = row.method if isinstance(row, Route) else "WS"
    needs = f"`{row.needs}`" if row.needs else "public"
    return f"| {method} | `{row.template}` | {needs} | {row.summary} |"


def test_the_route_list_is_that_of_the_code():
    assert block("routes").splitlines()[2:] == [shown(row) for row in rows()]


def test_the_test_command_is_the_one_that_ci_runs():
    ci = (ROOT / ".ci" / "run").read_text()
    assert "pip install -e '.[dev]' && pytest" in README
    assert "pip install --quiet -e '.[dev]'\npytest\n" in ci


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", README, re.DOTALL))
def test_a_configuration_loads(text, tmp_path):
    (tmp_path / "argentor.toml").write_text(text)
    load({"ANTHROPIC_API_KEY": "k1", "OPENAI_API_KEY": "k2", "WIKI_TOKEN": "k3"}, tmp_path)


def example(name):
    """Run the README's Python block that mentions `name`, and return its names."""
    (code,) = [found for found in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if name in found]
    names = {"__name__": "example"}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102  the README's own code is what is tested
    return names


@pytest.fixture
def in_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_an_empty_directory")
@pytest.mark.parametrize(("name", "asked", "message", "holds"), [
    ("Storage(url=", "GET /health", None, '"status":"ok"'),
    ("@skill(", "POST /api/v1/agent/chat", '/tool dice {"count": 3}', "6"),
    ("permissions=", "POST /api/v1/agent/chat", '/tool memory_store {"content": "my password"}', "not remembered here"),
    ("@route(", "GET /api/v1/weather/Madrid", None, '"city":"Madrid"'),
])  # fmt: skip
async def test_an_example_runs(name, asked, message, holds):
    app = example(name)["app"]
    headers = {"host": "localhost", "content-type": "application/json"}
    body = json.dumps({"message": message}).encode() if message else b""
    async with lifespan(app):
        answer = await http(app, *asked.split(), headers=headers, body=body)
    assert answer.status == 200
    assert holds in answer.body.decode()
