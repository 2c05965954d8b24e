import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from argentor_asgi import __version__, cli
from argentor_asgi.config import Secret
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


def test_new_key_prints_a_key_and_the_entry_that_knows_it(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["new-key", "ops"]) == 0
    key, entry = re.findall(r"^  (\S+)$", capsys.readouterr().out, re.MULTILINE)
    assert Keys([Secret(entry)]).verify(key.encode()) == Principal("ops")


def test_new_key_needs_no_name(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["new-key"]) == 0
    assert ":sha256:" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["anonymous", "a b", "a:b"])
def test_new_key_refuses_a_name_that_cannot_be_configured(name: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["new-key", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1


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
