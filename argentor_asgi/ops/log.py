"""What the gateway logs, as JSON lines for machines or lines for people.

Only the gateway's own loggers are touched, and those of `FOREIGN`, never the root: an embedding application keeps its
logging.
"""

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from typing import Literal, TextIO

LOGGER = "argentor"
"""The logger that `configure` sets up; each part of the gateway logs to a child of it."""
FOREIGN = ("client", "httpcore2", "httpx2", "mcp")
"""The loggers of the MCP SDK and of what speaks HTTP to others.

What they write holds whole URLs, whatever a server's process prints, and headers of answers, which may repeat a key.
"""
VALUE_CHARACTERS = 10_000
"""How much of one message, value or traceback is written."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

Format = Literal["auto", "json", "console"]


def configure(format: Format, level: str) -> None:  # noqa: A002  named as the setting is
    """Write the gateway's events to stderr from `level` on (`debug`, `info`, `warning`, `error`).

    `auto` is `console` on a terminal and `json` elsewhere. Called again, it replaces what it set up. What `FOREIGN`
    loggers say is dropped; the gateway says itself what comes of it.
    """
    terminal = is_console(format, sys.stderr)
    handler = _Handler(sys.stderr)
    handler.setFormatter(ConsoleFormatter() if terminal else JsonFormatter())
    logger = logging.getLogger(LOGGER)
    logger.handlers = [*(each for each in logger.handlers if not isinstance(each, _Handler)), handler]
    logger.setLevel(level.upper())
    logger.propagate = False
    for name in FOREIGN:
        logging.getLogger(name).propagate = False
        logging.getLogger(name).addHandler(logging.NullHandler())


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # generic for mypy alone
    """Our own handler, known by its class."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, ends in Z), level, logger, message, the `extra` fields, and the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. A field that JSON cannot carry is written as its `str`, so that a `Secret` stays `***`."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:VALUE_CHARACTERS],
        }
        line |= {name: value for name, value in _extra(record).items() if name not in line}
        if found := _traceback(record):
            line["traceback"] = found
        return json.dumps(line, default=str, ensure_ascii=True, skipkeys=True)


class ConsoleFormatter(logging.Formatter):
    """A line for people: time, level, logger, message, fields as `name=value`; a traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; control characters in it are escaped, so that no caller can forge another."""
        fields = "".join(f" {name}={value}" for name, value in _extra(record).items())
        words = f"{record.getMessage()[:VALUE_CHARACTERS]}{fields}"
        head = f"{_time(record)} {record.levelname.lower():7} {record.name}: {one_line(words)}"
        found = _traceback(record)
        return f"{head}\n{found}" if found else head


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra(record: logging.LogRecord) -> dict[str, object]:
    """Return what the caller gave as `extra`, such as `request_id`; bytes as text, long texts cut."""
    found = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    return {name: _readable(value) for name, value in found.items()}


def _readable(value: object) -> object:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value[:VALUE_CHARACTERS] if isinstance(value, str) else value


def _traceback(record: logging.LogRecord) -> str | None:
    if not record.exc_info or record.exc_info[1] is None:
        return None
    return "".join(traceback.format_exception(record.exc_info[1]))[-VALUE_CHARACTERS:].rstrip("\n")


def is_console(format: Format, stream: TextIO | int) -> bool:  # noqa: A002  named as the setting is
    """Say whether lines to `stream`, an open file or its descriptor, are for people."""
    is_terminal = os.isatty(stream) if isinstance(stream, int) else stream.isatty()
    return format == "console" or (format == "auto" and is_terminal)


def one_line(text: str) -> str:
    """Return the text with its control characters escaped, so that it stays one line and moves no cursor."""
    return text if text.isprintable() else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
