"""Reading the audit log from its newest line back, block by block: a file is never held whole."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from argentor_asgi.errors import Detail, InvalidInput
from argentor_asgi.ops.audit_entry import LINE_BYTES, Link, Row, is_sound, row_of

ACTIVE: Final = "audit.jsonl"
"""The file that is written to; the others are named by the number of their first entry, in `DIGITS` digits."""
HEAD: Final = "audit.head"
"""The number and the hash of the newest line, so that lines missing at the end are missed too."""
LOCK: Final = "audit.lock"
DIGITS: Final = 12
CURSOR_DIGITS: Final = 15
"""The longest cursor that is read."""
BLOCK: Final = 64 * 1024
"""How much is read at once; more than `LINE_BYTES`."""
PAGE_BYTES: Final = 4 * 1024 * 1024
"""After how many bytes of lines a page ends, however few of them were wanted."""
CUT: Final = b"?"
"""What stands for the end of a line that is too long to be one of ours."""


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some entries, newest first, and the cursor of the page behind it, None at the end."""

    rows: Sequence[Row]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Condition:
    """What a file holds: its first and last sound line, the bytes up to its last newline, what is wrong with it."""

    first: Row | None
    last: Link | None
    whole_bytes: int
    flaw: str | None


def rotated(directory: Path) -> list[Path]:
    """Return the files that are complete, oldest first. Raises `OSError`."""
    return sorted(path for path in directory.glob("audit-*.jsonl") if first_seq_of(path) is not None)


def first_seq_of(path: Path) -> int | None:
    """Return the number of the first entry that the file's name tells, None when it is not one of ours."""
    digits = path.name.removeprefix("audit-").removesuffix(".jsonl")
    return int(digits) if len(digits) == DIGITS and digits.isascii() and digits.isdigit() else None


def rotated_name(first_seq: int) -> str:
    """Return the name of a complete file that begins with this entry."""
    return f"audit-{first_seq:0{DIGITS}}.jsonl"


def read_head(directory: Path) -> Link | None:
    """Return what `audit.head` says, None when it is missing or is none. Raises `OSError`."""
    with suppress(FileNotFoundError), (directory / HEAD).open("rb") as file:
        data = file.read(BLOCK)
        link = Link(int(data[:20]), data[21:85].decode("ascii", "replace")) if data[:20].isdigit() else None
        return link if link is not None and data == head_bytes(link) else None
    return None


def head_bytes(link: Link) -> bytes:
    """Return the content of `audit.head`, always of one length."""
    return f"{link.seq:020} {link.hash}\n".encode()


def from_cursor(cursor: str | None) -> int | None:
    """Return the number below which a page begins. Raises `InvalidInput` for what no page gave."""
    if cursor is None:
        return None
    if cursor.isascii() and cursor.isdigit() and len(cursor) <= CURSOR_DIGITS and cursor[0] != "0":
        return int(cursor)
    raise InvalidInput("The cursor is not one of this list.", details=[Detail("/cursor", "Not a cursor of this list.")])


def page(directory: Path, *, below: int | None, limit: int, is_wanted: Callable[[Row], bool]) -> AuditPage:
    """Return up to `limit` wanted entries below a number, newest first. Raises `OSError`.

    It ends early after `PAGE_BYTES`; its cursor goes on from there.
    """
    rows: list[Row] = []
    left = PAGE_BYTES
    for row, size in newest_first(directory, below):
        if len(rows) == limit or (left <= 0 and row is not None):
            return AuditPage(rows, None if below is None else str(below))
        left -= size
        if row is not None:
            below = row.seq
            if is_wanted(row):
                rows.append(row)
    return AuditPage(rows, None)


def newest_first(directory: Path, below: int | None = None) -> Iterator[tuple[Row | None, int]]:
    """Yield each entry below a number, newest first over all files, and its bytes; None for a line that is none.

    A file that is rotated or deleted meanwhile neither repeats an entry nor hides one that stays.
    """
    with suppress(FileNotFoundError), (directory / ACTIVE).open("rb") as file:
        for row, size in _file_newest_first(file, below):
            below = below if row is None else row.seq
            yield row, size
    for path in reversed(rotated(directory)):
        first = first_seq_of(path)
        if below is not None and first is not None and first >= below:
            continue
        with suppress(FileNotFoundError), path.open("rb") as file:
            for row, size in _file_newest_first(file, below):
                below = below if row is None else row.seq
                yield row, size


def _file_newest_first(file: BinaryIO, below: int | None) -> Iterator[tuple[Row | None, int]]:
    end = file.seek(0, os.SEEK_END)
    if below is not None:
        end = _end_below(file, below, end)
    for line in _lines_backward(file, end):
        row = row_of(line)
        if row is None or below is None or row.seq < below:
            yield row, len(line) + 1


def _end_below(file: BinaryIO, below: int, size: int) -> int:
    """Return an offset, at most a few blocks too high, at which entries numbered `below` or more begin."""
    low, high = 0, size
    while high - low > BLOCK:
        middle = (low + high) // 2
        found = _first_behind(file, middle, high)
        if found is None or found[0] >= below:
            high = middle
        else:
            low = found[1]
    return min(high + BLOCK, size)


def _first_behind(file: BinaryIO, offset: int, end: int) -> tuple[int, int] | None:
    """Return the number of the first entry that begins behind `offset` and before `end`, and where it ends."""
    file.seek(offset)
    at = offset + len(file.readline(BLOCK))
    while at < end:
        line = file.readline(BLOCK)
        at += len(line)
        row = row_of(line.rstrip(b"\n"))
        if row is not None:
            return row.seq, at
    return None


def _lines_backward(file: BinaryIO, end: int) -> Iterator[bytes]:
    """Yield the lines before the offset `end`, the last one first, whole or not, but no empty ones."""
    tail = b""
    while end > 0:
        size = min(BLOCK, end)
        end -= size
        file.seek(end)
        first, *lines = (file.read(size) + tail).split(b"\n")
        yield from filter(None, reversed(lines))
        tail = first if len(first) <= BLOCK else CUT
    if tail:
        yield tail


def last_row(path: Path) -> Row | None:
    """Return the newest entry of a file, None when it has none. Raises `OSError`."""
    with path.open("rb") as file:
        return next((row for row, _ in _file_newest_first(file, None) if row is not None), None)


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file from its start, with their newlines; of one that is too long, no more than `CUT`."""
    while line := file.readline(LINE_BYTES):
        if len(line) == LINE_BYTES and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = file.readline(BLOCK)
            line = CUT + line[-1:]
        yield line


def inspect(file: BinaryIO, before: Link) -> Condition:
    """Return the condition of a file whose first line should follow `before`. Raises `OSError`."""
    first: Row | None = None
    last, flaw, whole = None, None, 0
    for number, line in enumerate(lines_of(file), 1):
        if not line.endswith(b"\n"):
            continue
        whole = file.tell()
        row, wrong = judge(line[:-1], last or before)
        flaw = flaw or (wrong and f"line {number}: {wrong}")
        if row is not None:
            first = first or row
            last = Link(row.seq, row.hash)
    return Condition(first, last, whole, flaw)


def judge(line: bytes, before: Link | None) -> tuple[Row | None, str | None]:
    """Return the entry of a line without its newline, and what is wrong with it as the one behind `before`.

    `before` None: the line before is not known, and any will do.
    """
    row = row_of(line)
    if row is None:
        return None, "it is not an entry"
    if not is_sound(line, row):
        return row, "its hash is not that of its bytes"
    if before is None or is_explained(row, before):
        return row, None
    if row.seq != before.seq + 1:
        return row, f"entry {row.seq} follows entry {before.seq}"
    if row.prev != before.hash:
        return row, "its `prev` is not the hash of the line before"
    return row, None


def is_explained(row: Row, before: Link) -> bool:
    """Say whether the gateway itself found, and wrote down in `row`, that lines behind `before` were missing."""
    lost = row.seq - 1 - before.seq
    told = (row.details.get("last_seq"), row.details.get("lost"))
    return row.action == "audit_recovered" and lost > 0 and told == (before.seq, lost)
