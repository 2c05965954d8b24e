"""Checking an audit log that may have been tampered with, line by line from its first entry to its last."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from argentor_asgi.errors import ConfigError
from argentor_asgi.ops.audit_entry import Link, Row
from argentor_asgi.ops.audit_read import ACTIVE, HEAD, first_seq_of, is_explained, judge, lines_of, read_head, rotated


@dataclass(frozen=True, slots=True)
class Break:
    """Where the log is not what was written: the file's name, the line in it (0 for the whole file), and what."""

    file: str
    line: int
    what: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What `verify` found. `notes`: what the gateway itself said of damage that it met and of files that it deleted."""

    entries: int
    first_seq: int | None
    last_seq: int | None
    first_break: Break | None
    notes: Sequence[str]

    @property
    def exit_code(self) -> int:
        """0 for a log that is whole, 1 for one with a break."""
        return 0 if self.first_break is None else 1


@dataclass(slots=True)
class _Walk:
    """How far the check is. `retained`: up to which entry the gateway deleted files, as it says itself."""

    head: Link | None
    files: int = 0
    entries: int = 0
    first: Row | None = None
    first_file: str = ACTIVE
    last: Link | None = None
    retained: int = 0
    first_break: Break | None = None
    has_head: bool = False
    notes: list[str] = field(default_factory=list)

    def broken(self, file: str, line: int, what: str) -> None:
        """Keep the first break."""
        self.first_break = self.first_break or Break(file, line, what)


def verify(directory: Path) -> AuditReport:
    """Check every file of the log in `directory`, also while a gateway writes to it.

    Any line that was changed, removed, put in or moved is found, and any file, with the newest lines too, as long as
    `audit.head` is there. Raises `ConfigError` when there is no log or it cannot be read.
    """
    try:
        walk = _Walk(read_head(directory))  # before the files: what is written meanwhile only makes it lag
        for name, file in _in_order(directory):
            _walk_file(walk, name, file)
    except OSError as error:
        raise ConfigError(f"audit.directory: {directory} cannot be read: {error.strerror}") from error
    if walk.head is None and not walk.files:
        raise ConfigError(f"audit.directory: {directory} holds no audit log")
    _judge_start(walk)
    _judge_end(walk)
    first_seq = None if walk.first is None else walk.first.seq
    last_seq = None if walk.last is None else walk.last.seq
    return AuditReport(walk.entries, first_seq, last_seq, walk.first_break, walk.notes)


def report_lines(report: AuditReport) -> list[str]:
    """Return what people read of the report, the verdict last."""
    lines = [f"{report.entries} entries, {report.first_seq} to {report.last_seq}"] if report.entries else ["no entries"]
    lines += [f"note: {note}" for note in report.notes]
    found = report.first_break
    if found is None:
        return [*lines, "the chain is whole"]
    where = f"{found.file}, line {found.line}" if found.line else found.file
    return [*lines, f"BROKEN: {where}: {found.what}"]


def _in_order(directory: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Yield each file with its name, oldest first, the active one last, also when files are rotated meanwhile."""
    seen: set[Path] = set()
    while True:
        with suppress(FileNotFoundError), (directory / ACTIVE).open("rb") as active:
            if not set(rotated(directory)) - seen:
                yield ACTIVE, active
                return
        fresh = [path for path in rotated(directory) if path not in seen]
        if not fresh:
            return
        for path in fresh:
            seen.add(path)
            with suppress(FileNotFoundError), path.open("rb") as file:  # the retention may take it
                yield path.name, file


def _walk_file(walk: _Walk, name: str, file: BinaryIO) -> None:
    number, named = 0, first_seq_of(Path(name))
    for number, line in enumerate(lines_of(file), 1):
        row, wrong = judge(line[:-1], walk.last) if line.endswith(b"\n") else (None, "it is not whole")
        if row is not None and number == 1 and named not in (None, row.seq):
            wrong = wrong or f"the file begins with entry {row.seq}, which is not the one that its name tells"
        if wrong:
            walk.broken(name, number, wrong)
        if row is not None:
            _take(walk, name, row)
    walk.files += 1
    if number == 0 and named is not None:
        walk.broken(name, 0, "the file is empty")


def _take(walk: _Walk, name: str, row: Row) -> None:
    """Count an entry, and hear what it says of the log itself."""
    if walk.first is None:
        walk.first, walk.first_file = row, name
    walk.entries += 1
    walk.last = Link(row.seq, row.hash)
    walk.has_head |= walk.last == walk.head
    if row.action == "audit_recovered":
        walk.notes.append(f"entry {row.seq} of {row.timestamp:%Y-%m-%d %H:%M:%S} tells of damage: {row.details}")
    elif row.action == "audit_retention" and isinstance(last_seq := row.details.get("last_seq"), int):
        walk.retained = max(walk.retained, last_seq)


def _judge_start(walk: _Walk) -> None:
    """Look whether entries are missing before the first one, which no deletion by age explains."""
    first = walk.first
    if first is None or (walk.first_break is not None and walk.first_break.file == walk.first_file):
        return
    before = Link()
    is_sound = first.prev == before.hash if first.seq == 1 else first.seq <= walk.retained + 1
    if not is_sound and not is_explained(first, before):
        walk.first_break = Break(walk.first_file, 1, f"the log begins with entry {first.seq}, and should not")


def _judge_end(walk: _Walk) -> None:
    """Look whether entries are missing behind the last one."""
    last = walk.last or Link()
    if walk.head is None:
        walk.broken(HEAD, 0, "it is missing or damaged, so that missing entries at the end would not show")
    elif walk.head.seq > last.seq:
        walk.broken(ACTIVE, 0, f"entries {last.seq + 1} to {walk.head.seq} are missing at the end")
    elif not walk.has_head:
        walk.broken(HEAD, 0, f"it names entry {walk.head.seq} with a hash that the entry has not")
