import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.config import Secret
from argentor_asgi.ops import log

WORDS = st.text(max_size=30)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    logger = logging.getLogger(log.LOGGER)
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


@contextmanager
def written(kind: log.Format = "json", level: str = "info") -> Iterator[io.StringIO]:
    with redirect_stderr(io.StringIO()) as stream:
        log.configure(kind, level)
        yield stream


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json_is_one_object_a_line_with_the_fields_given():
    with written() as stream:
        logging.getLogger("argentor.runs").warning("run %s failed", "r1", extra={"request_id": "q1", "turns": 3})
    found = json.loads(stream.getvalue())
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "warning",
        "logger": "argentor.runs",
        "message": "run r1 failed",
        "request_id": "q1",
        "turns": 3,
    }


def test_an_exception_comes_with_its_traceback():
    with written() as stream:
        try:
            int("inner")
        except ValueError:
            logging.getLogger("argentor").exception("it failed")
    assert "ValueError: invalid literal" in json.loads(stream.getvalue())["traceback"]


def test_the_console_is_a_line_for_people():
    with written("console") as stream:
        logging.getLogger("argentor.ops").info("ready", extra={"request_id": b"q1"})
    line = stream.getvalue()
    assert line.endswith(" info    argentor.ops: ready request_id=q1\n")


def test_the_console_shows_a_traceback_below():
    with written("console") as stream:
        try:
            int("inner")
        except ValueError:
            logging.getLogger("argentor").exception("it failed")
    assert stream.getvalue().splitlines()[-1].startswith("ValueError: invalid literal")


def test_what_is_below_the_level_is_not_written():
    with written(level="error") as stream:
        logging.getLogger("argentor").warning("hush")
    assert stream.getvalue() == ""


def test_configuring_twice_writes_once():
    with written(), written() as stream:
        logging.getLogger("argentor").warning("once")
    assert len(stream.getvalue().splitlines()) == 1


def test_the_root_and_other_handlers_are_left_alone():
    root = logging.getLogger()
    before, own = (root.handlers[:], root.level), logging.NullHandler()
    logging.getLogger("argentor").addHandler(own)
    with written():
        pass
    assert (root.handlers, root.level) == before
    assert own in logging.getLogger("argentor").handlers


@pytest.mark.parametrize(("stream", "starts"), [(Terminal(), "2"), (io.StringIO(), "{")])
def test_auto_is_for_people_on_a_terminal_only(stream: io.StringIO, starts: str):
    with redirect_stderr(stream):
        log.configure("auto", "info")
        logging.getLogger("argentor").info("hello")
    assert stream.getvalue().startswith(starts)


def test_long_texts_are_cut_at_the_bound():
    with written() as stream:
        logging.getLogger("argentor").info("x" * 20_000, extra={"more": "y" * 20_000})
    found = json.loads(stream.getvalue())
    assert (len(found["message"]), len(found["more"])) == (log.VALUE_CHARACTERS, log.VALUE_CHARACTERS)


@pytest.mark.parametrize("kind", ["json", "console"])
def test_a_secret_never_shows(kind: log.Format):
    with written(kind) as stream:
        logging.getLogger("argentor").info("key %s", Secret("s3cr3t"), extra={"key": Secret("s3cr3t")})
    assert "s3cr3t" not in stream.getvalue()
    assert stream.getvalue().count("***") == 2


@given(WORDS, WORDS, st.sampled_from(["json", "console"]))
def test_whatever_is_logged_stays_on_one_line(message: str, value: str, kind: log.Format):
    record = logging.makeLogRecord({"msg": message, "levelname": "INFO", "name": "argentor", "given": value})
    formatter = log.JsonFormatter() if kind == "json" else log.ConsoleFormatter()
    line = formatter.format(record)
    assert len(line.splitlines()) == 1
    assert line.encode(sys.stderr.encoding or "utf-8", "backslashreplace")


def test_what_libraries_log_of_urls_and_headers_is_dropped(capsys):
    log.configure("json", "info")
    assert set(log.FOREIGN) == {"client", "httpcore2", "httpx2", "mcp"}
    for name in log.FOREIGN:
        logging.getLogger(f"{name}.part").error("https://example.com/?key=secret")
    assert capsys.readouterr() == ("", "")
