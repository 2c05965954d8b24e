import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from argentor_asgi import __version__, cli
from argentor_asgi.api_keys import Secret, parse_key
from argentor_asgi.config import load
from argentor_asgi.security.identity import Principal
from argentor_asgi.security.keys import Keys

CAN_RUN_S = 30


def run(directory: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ARGENTOR_")}
    return subprocess.run(  # noqa: S603  our own interpreter, our own arguments
        [sys.executable, "-m", "argentor_asgi", *arguments],
        cwd=directory,
        env={**inherited, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=CAN_RUN_S,
    )


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Be in an empty directory, with none of this process's own settings."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("ARGENTOR_"):
            monkeypatch.delenv(name)


def test_check_config_prints_the_effective_configuration(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    (tmp_path / "argentor.toml").write_text('[auth]\napi_keys = ["ops:s3cr3t-key"]\n')
    assert cli.main(["check-config"]) == 0
    printed = capsys.readouterr().out
    assert 'api_keys = ["***"]' in printed
    assert "s3cr3t-key" not in printed


@pytest.mark.parametrize("command", ["check-config", "serve"])
def test_a_wrong_configuration_is_one_line_and_exit_2(command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    (tmp_path / "argentor.toml").write_text("[limits]\nruns = 0\n")
    assert cli.main([command]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith("argentor: limits.runs (")


def made_key(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Return the key and the entry that `new-key` prints."""
    assert cli.main(["new-key", *arguments]) == 0
    printed = capsys.readouterr().out
    found = re.fullmatch(r"The key, shown only this once:\n  (\S+)\n[^\n]+:\n(.+)\n", printed, re.DOTALL)
    return found[1], textwrap.dedent(found[2])


def test_new_key_prints_a_key_and_the_entry_that_knows_it(capsys: pytest.CaptureFixture[str]):
    key, entry = made_key(capsys, "ops")
    assert key.startswith("agtr_")
    assert Keys([parse_key(Secret(entry))]).verify(key.encode(), 0.0).principal == Principal("ops")


def test_new_key_needs_no_name(capsys: pytest.CaptureFixture[str]):
    key, entry = made_key(capsys)
    assert entry.partition(":")[0] == key.split("_")[1]


def test_new_key_with_rights_prints_the_row_that_the_configuration_takes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    rights = ["--scopes", "chat:write, runs:read", "--tenant", "acme", "--plan", "pro", "--expires", "90d"]
    key, row = made_key(capsys, "ci", *rights)
    assert key not in row
    (tmp_path / "argentor.toml").write_text(f"[plans.pro]\nruns = 1\n{row}\n")
    [held] = load({}, tmp_path).auth.held
    found = Keys([held]).verify(key.encode(), 0.0)
    assert (found.principal, found.principal.plan) == (Principal("ci", "acme"), "pro")
    assert found.principal.scopes == {"chat:write", "runs:read"}
    assert timedelta(days=89) < held.expires_at - datetime.now(UTC) <= timedelta(days=90)


def test_new_key_takes_a_time_and_names_nobody_who_is_not_named(capsys: pytest.CaptureFixture[str]):
    _, row = made_key(capsys, "--expires", "2200-01-31T00:00:00+01:00")
    assert tomllib.loads(row)["auth"]["keys"][0]["expires_at"] == datetime(2200, 1, 30, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["anonymous"], "a name is"),
        (["a b"], "a name is"),
        (["a:b", "--plan", "pro"], "a name is"),
        (["--scopes", "chat"], "'chat' is no scope"),
        (["--tenant", "a b"], "auth.keys[0].tenant (new-key) is 'a b'"),
        (["--plan", "a b"], "auth.keys[0].plan (new-key) is 'a b'"),
        (["--expires", "soon"], "--expires is days such as 90d"),
        (["--expires", "0d"], "in the past"),
        (["--expires", "2020-01-01T00:00:00Z"], "in the past"),
        (["--expires", "2200-01-01T00:00:00"], "needs an offset"),
    ],
)
def test_new_key_refuses_what_could_not_be_configured(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
):
    assert cli.main(["new-key", *arguments]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert words in printed.err


def test_doctor_prints_a_line_for_each_finding(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["doctor", "--bind", "127.0.0.1:0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(re.match(r"(ok|warn)  ? ?  ?\w+ ", line) for line in lines)


def test_doctor_exits_1_when_something_fails(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["doctor", "--bind", "nonsense"]) == 1
    assert "fail" in capsys.readouterr().out


def test_openapi_is_the_document_as_json(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["openapi"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["openapi"].startswith("3.1")
    assert "/health" in document["paths"]


def test_routes_are_a_table_of_the_real_rows(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["routes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["METHOD", "PATH", "NEEDS", "HANDLER"]
    assert any(line.startswith("WS ") and " /ws " in line for line in lines)
    health = next(line.split() for line in lines if " /health " in line)
    assert health[:3] == ["GET", "/health", "-"]


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["serve", "--nonsense"]])
def test_a_command_line_that_is_none_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: argentor" in capsys.readouterr().err


@pytest.mark.slow
def test_the_package_is_a_command(tmp_path: Path):
    done = run(tmp_path, "--version")
    assert (done.returncode, done.stdout) == (0, f"argentor-asgi {__version__}\n")


@pytest.mark.slow
def test_an_address_that_is_taken_is_one_line_and_exit_2(tmp_path: Path):
    done = run(tmp_path, "serve", "--bind", "192.0.2.1:8000", ARGENTOR_STORAGE_URL="memory://")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "192.0.2.1:8000" in done.stderr


@pytest.mark.slow
def test_what_the_terminal_cannot_show_is_escaped(tmp_path: Path):
    done = run(tmp_path, "check-config", ARGENTOR_AGENT_SYSTEM_PROMPT="¿Qué? 🙂", PYTHONIOENCODING="ascii")
    assert (done.returncode, "\\xbfQu\\xe9? \\U0001f642" in done.stdout) == (0, True)


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "argentor_asgi", "check-config"],
            cwd=tmp_path,
            stdout=closed,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=CAN_RUN_S,
        )
    assert (done.returncode, done.stderr) == (0, b"")
