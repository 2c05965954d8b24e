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
    ):
        command = commands.add_parser(run.__name__.replace("_", "-"), help=words, description=words)
        command.set_defaults(run=run)
        if run in {serve, doctor}:
            places = f"host:port, [v6]:port or unix:path; repeatable; {DEFAULT_BIND} by default"
            command.add_argument("--bind", action="append", metavar="ADDRESS", help=places)
        if run is new_key:
            command.add_argument("name", nargs="?", help="what the logs call the key's holder")
    return parser


def serve(arguments: "Namespace") -> int:
    """Serve the gateway that is configured here, and return the server's exit code."""
    config = load(os.environ, Path.cwd())

    from argentor_asgi.compose import gateway  # noqa: PLC0415  the whole gateway, which only this command runs
    from argentor_asgi.ops.log import configure  # noqa: PLC0415  as above
    from argentor_asgi.server import launcher  # noqa: PLC0415  as above

    configure(config.log.format, config.log.level)
    return launcher.serve(gateway(config), bind=_bind(arguments))


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

    try:
        key, entry = keys.new_key(arguments.name)
    except ValueError:
        return _cannot("a key's name is 1 to 64 letters, digits, `.`, `_` and `-`, and not `anonymous` or `sha256`")
    _print(f"The key, shown only this once:\n  {key}\nIts entry in auth.api_keys:\n  {entry}")
    return OK


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
