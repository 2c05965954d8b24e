"""The `argentor` command.

Every command answers with an exit code: 0 done, 1 something is wrong with what was looked at, 2 it cannot be done and
stderr has the one line that says why. What a command needs is imported by it, so that none waits for another's.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from argentor_asgi.config import effective, load
from argentor_asgi.errors import ConfigError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from datetime import datetime

OK: Final = 0
FOUND_WRONG: Final = 1
CANNOT: Final = 2
DEFAULT_BIND: Final = "127.0.0.1:8000"
_PUBLIC: Final = "-"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; raises `SystemExit` for arguments that are none."""
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
        sys.stdout.flush()
    except ConfigError as error:
        return _cannot(str(error))
    except BrokenPipeError:
        # The reader has seen enough, as in `argentor routes | head`; Python must not try to flush the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        return _cannot(f"{error.strerror}{f': {error.filename}' if error.filename else ''}")
    return code


def _parser() -> "ArgumentParser":
    import argparse  # noqa: PLC0415  `import argentor_asgi.cli` stays cheap

    from argentor_asgi import __version__  # noqa: PLC0415  as above

    parser = argparse.ArgumentParser(prog="argentor", description="An AI-agent gateway.")
    parser.add_argument("--version", action="version", version=f"argentor-asgi {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for run, words in (
        (serve, "serve the gateway until it is told to stop"),
        (routes, "list every route: method, path, the scope that it needs, handler"),
        (openapi, "print the OpenAPI document"),
        (check_config, "print the configuration and where each value comes from"),
        (new_key, "make an API key"),
        (doctor, "look for what would trouble the gateway here"),
        (audit, "check that nobody has changed the audit log"),
    ):
        command = commands.add_parser(run.__name__.replace("_", "-"), help=words, description=words)
        command.set_defaults(run=run)
        if run in {serve, doctor}:
            places = f"host:port, [v6]:port or unix:path; repeatable; {DEFAULT_BIND} by default"
            command.add_argument("--bind", action="append", metavar="ADDRESS", help=places)
        if run is audit:
            command.add_argument("task", choices=["verify"], help="what to do with it")
            command.add_argument("directory", nargs="?", help="where it is; by default as configured here")
        if run is new_key:
            command.add_argument("name", nargs="?", help="what the logs call the key's holder")
            command.add_argument(
                "--scopes", metavar="A,B", help="what its holder may do, such as chat:write; * for all"
            )
            command.add_argument("--tenant", help="whose data its holder works with")
            command.add_argument("--plan", help="which of the configured plans limits its holder")
            command.add_argument("--expires", metavar="WHEN", help="90d for days from now, or 2030-01-31T00:00:00Z")
    return parser


def serve(arguments: "Namespace") -> int:
    """Serve the gateway that is configured here, and return the server's exit code."""
    config = load(os.environ, Path.cwd())

    from argentor_asgi.compose import gateway  # noqa: PLC0415  the whole gateway, which only this command runs
    from argentor_asgi.ops.log import configure  # noqa: PLC0415  as above
    from argentor_asgi.server import launcher  # noqa: PLC0415  as above

    configure(config.log.format, config.log.level)
    return launcher.serve(gateway(config), bind=_bind(arguments), config=config)


def routes(_arguments: "Namespace") -> int:
    """Print every route as the gateway reads it."""
    from argentor_asgi.asgi.route import Socket  # noqa: PLC0415  the routes bring all of the gateway with them
    from argentor_asgi.compose import rows  # noqa: PLC0415  as above

    lines = [("METHOD", "PATH", "NEEDS", "HANDLER")]
    for row in rows():
        handler = f"{row.handler.__module__}.{row.handler.__qualname__}"
        method = "WS" if isinstance(row, Socket) else row.method
        lines.append((method, row.template, row.needs or _PUBLIC, handler))
    _print(_columns(lines))
    return OK


def openapi(_arguments: "Namespace") -> int:
    """Print the OpenAPI document of the built-in routes, as JSON."""
    import json  # noqa: PLC0415  for the indentation

    from argentor_asgi.compose import openapi as document  # noqa: PLC0415  the routes bring all of the gateway with them

    _print(json.dumps(document(), indent=2, ensure_ascii=False))
    return OK


def check_config(_arguments: "Namespace") -> int:
    """Print the effective configuration, its secrets hidden."""
    _print(effective(load(os.environ, Path.cwd())))
    return OK


def new_key(arguments: "Namespace") -> int:
    """Print a fresh key, which is stored nowhere, and the entry that lets the gateway know it."""
    from argentor_asgi.security import keys  # noqa: PLC0415  only this command makes keys

    made = keys.new_key()
    rights = {name: value for name in ("scopes", "tenant", "plan", "expires") if (value := getattr(arguments, name))}
    try:
        entry = keys.entry_of(made, arguments.name)
        if rights:
            entry = _row(arguments.name or made.id, made.digest.hex(), rights)
    except ValueError as error:
        return _cannot(str(error))
    where = "What knows it in argentor.toml" if rights else "Its entry in auth.api_keys"
    indented = entry.replace("\n", "\n  ")
    _print(f"The key, shown only this once:\n  {made.text.reveal()}\n{where}:\n  {indented}")
    return OK


def _row(name: str, digest: str, rights: dict[str, str]) -> str:
    """Return the row of `auth.keys` for a key with these rights, checked; raises `ConfigError` and `ValueError`."""
    import json  # noqa: PLC0415  its strings are TOML's too
    from datetime import UTC, datetime  # noqa: PLC0415  only for keys that expire

    from argentor_asgi.config import options  # noqa: PLC0415  as above
    from argentor_asgi.settings import convert  # noqa: PLC0415  as above

    row: dict[str, object] = {"name": name, "sha256": digest, **rights}
    if "scopes" in rights:
        row["scopes"] = [scope.strip() for scope in rights["scopes"].split(",")]
    if "expires" in rights:
        row["expires_at"] = _moment(str(row.pop("expires")), datetime.now(UTC))
    convert(next(option for option in options() if option.name == "auth.keys"), [row], source="new-key")
    shown = {key: value.isoformat() if isinstance(value, datetime) else json.dumps(value) for key, value in row.items()}
    return "\n".join(("[[auth.keys]]", *(f"{key} = {value}" for key, value in shown.items())))


def _moment(text: str, now: "datetime") -> "datetime":
    """Return the time some days after `now`, or that RFC 3339 spells; raises `ValueError` unless it is ahead."""
    import re  # noqa: PLC0415  as above
    from datetime import datetime, timedelta  # noqa: PLC0415  as above

    days = re.fullmatch(r"([0-9]{1,5})d", text)
    try:
        found = now + timedelta(days=int(days[1])) if days else datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("--expires is days such as 90d, or a time such as 2030-01-31T00:00:00Z") from None
    if found.tzinfo is None:
        raise ValueError("--expires needs an offset from UTC, such as the Z in 2030-01-31T00:00:00Z")
    if found <= now:
        raise ValueError("--expires is in the past: nobody could ever use the key")
    return found.replace(microsecond=0)


def audit(arguments: "Namespace") -> int:
    """Check the audit log's chain, also beside a running gateway; 1 when it is broken."""
    from argentor_asgi.ops.audit_verify import report_lines, verify  # noqa: PLC0415  only this command looks

    directory = arguments.directory or load(os.environ, Path.cwd()).audit_directory
    if directory is None:
        return _cannot("no audit log is kept: storage.url is memory:// and audit.directory is not set")
    report = verify(Path(directory))
    _print("\n".join(report_lines(report)))
    return report.exit_code


def doctor(arguments: "Namespace") -> int:
    """Print what each check found; 1 when one of them failed."""
    from argentor_asgi.doctor import examine  # noqa: PLC0415  only this command looks

    findings = list(examine(os.environ, Path.cwd(), _bind(arguments)))
    _print(_columns([(found.level, found.subject, found.words) for found in findings]))
    return FOUND_WRONG if any(found.level == "fail" for found in findings) else OK


def _bind(arguments: "Namespace") -> Sequence[str]:
    return tuple(arguments.bind or (DEFAULT_BIND,))


def _columns(lines: Sequence[tuple[str, ...]]) -> str:
    """Return lines of words as columns of equal width, the last one ragged."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _cannot(words: str) -> int:
    _print(f"argentor: {' '.join(words.split())}", sys.stderr)
    return CANNOT


def _print(text: str, stream: TextIO | None = None) -> None:
    """Write a text and a newline; what the terminal's encoding lacks is written as an escape."""
    stream = stream or sys.stdout
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
