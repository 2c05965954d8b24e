"""The files of the audit log as their one writer sees them; every call is one thread's, and waits for the disk.

A batch is handed to the system with one write, and is then safe from the end of this process; it is forced to the
device (`fsync`) at rotation, at `sync` and at `close`, so that a loss of power may take the newest entries, never the
middle.
"""

import errno
import fcntl
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from argentor_asgi.ops.audit_entry import Entry, Link, Outcome, entry, seal
from argentor_asgi.ops.audit_read import (
    ACTIVE,
    HEAD,
    LOCK,
    first_seq_of,
    head_bytes,
    inspect,
    last_row,
    newest_first,
    read_head,
    rotated,
    rotated_name,
)
from argentor_asgi.ops.audit_tally import Tally

SCAN_BYTES: Final = 16 * 1024 * 1024
"""How much of the newest lines is counted at start."""
RETENTION_CHECK: Final = timedelta(hours=1)
"""How often files are looked at for their age, besides at every rotation."""
PROBE: Final = "audit.probe"
"""The file that `probe` writes."""
PROBE_BYTES: Final = 16 * 1024
"""How much it writes: as much as a line can be long."""
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW

logger = logging.getLogger("argentor.audit")


@dataclass(slots=True)
class Written:
    """What one call wrote: `taken` of the given entries, all `entries` in order, its own among them, up to `error`."""

    entries: list[Entry] = field(default_factory=list)
    taken: int = 0
    error: OSError | None = None


class AuditFiles:
    """Writes to the files in `directory`, which `try_lock` makes this process's alone."""

    def __init__(self, directory: Path, *, file_bytes: int, retention_days: int) -> None:
        """Name the directory; nothing is touched yet."""
        self._directory = directory
        self._file_bytes = file_bytes
        self._retention = timedelta(days=retention_days)
        self._lock_fd = self._fd = self._head_fd = -1
        self._size = 0
        self._rotate_at = file_bytes
        self._first_seq: int | None = None
        self._last = Link()
        self._is_torn = False
        self._notes: list[Entry] = []
        self._retain_at = _LONG_AGO
        self.oldest_seq = 1

    @property
    def last(self) -> Link:
        """Where the chain stands."""
        return self._last

    @property
    def kept(self) -> int:
        """How many entries are kept."""
        return self._last.seq + 1 - self.oldest_seq

    def try_lock(self) -> bool:
        """Make the directory, private, and take its lock unless another holds it. Raises `OSError`."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._lock_fd = fd
        return True

    def open(self, now: datetime) -> tuple[Tally, Written]:
        """Go on behind the last whole line, and say `audit_opened`. Raises `OSError`.

        Also returns the counts of the newest `SCAN_BYTES` that were there.
        """
        self._recover(now)
        older = rotated(self._directory)
        self.oldest_seq = (first_seq_of(older[0]) if older else self._first_seq) or self._last.seq + 1
        tally = self._counted(now)
        self._notes.append(_note(now, "audit_opened", pid=os.getpid()))
        return tally, self.append([], now)

    def append(self, entries: Sequence[Entry], now: datetime) -> Written:
        """Write the entries, rotate and delete what is due; an error ends it, and what was written before stays."""
        done = Written()
        try:
            self._mend(now)
            while self._notes:
                put = self._put(self._notes)
                done.entries += put
                del self._notes[: len(put)]
            while done.taken < len(entries):
                put = self._put(entries[done.taken :])
                done.taken += len(put)
                done.entries += put
                self._rotate_when_full()
            done.entries += self._retain(now)
        except OSError as error:
            done.error = error
        return done

    def sync(self) -> None:
        """Force everything to the device. Raises `OSError`."""
        os.fsync(self._fd)
        os.fsync(self._head_fd)

    def probe(self) -> None:
        """Write a block to a file of its own and delete it, as proof that the disk takes more. Raises `OSError`."""
        path = self._directory / PROBE
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            left = memoryview(bytes(PROBE_BYTES))
            while left:
                left = left[os.write(fd, left) :]
        finally:
            os.close(fd)
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Force everything to the device, and let go of the directory. Raises `OSError`, but is closed then."""
        try:
            if self._fd >= 0:
                self.sync()
        finally:
            held = [fd for fd in (self._fd, self._head_fd, self._lock_fd) if fd >= 0]
            self._fd = self._head_fd = self._lock_fd = -1
            for fd in held:
                with suppress(OSError):  # it is closed all the same (close(2))
                    os.close(fd)

    # --- writing -------------------------------------------------------------------------------------------------

    def _put(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Write entries until the file is full, all or none of them, and return which."""
        lines: list[bytes] = []
        link, room = self._last, self._rotate_at - self._size
        for each in entries:
            line, link = seal(each, link)
            lines.append(line)
            room -= len(line)
            if room <= 0:
                break
        self._write(b"".join(lines))
        if self._first_seq is None:
            self._first_seq = self._last.seq + 1
        self._last = link
        with suppress(OSError):  # a head that lags behind is no break, and the lines are there
            os.pwrite(self._head_fd, head_bytes(link), 0)
        return entries[: len(lines)]

    def _write(self, data: bytes) -> None:
        self._is_torn = True
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            with suppress(OSError):  # else it is cut off before the next write
                self._cut()
            raise
        self._size += len(data)
        self._is_torn = False

    def _cut(self) -> None:
        os.ftruncate(self._fd, self._size)
        self._is_torn = False

    def _mend(self, now: datetime) -> None:
        """Begin a new file when the one that is open is no longer the one that readers find."""
        if self._is_torn:
            self._cut()
        with suppress(FileNotFoundError):
            there, here = (self._directory / ACTIVE).lstat(), os.fstat(self._fd)
            if os.path.samestat(there, here) and there.st_size == self._size:
                return
        self._recover(now)

    # --- beginning and going on ----------------------------------------------------------------------------------

    def _recover(self, now: datetime) -> None:
        """Open the active file, cut off an unfinished line, find the end of the chain, and note what is not in order.

        Numbers are never used twice: where lines are missing, the chain goes on behind the newest one that was known.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        head = read_head(self._directory) or Link()
        self._open_files()
        before = self._end_of_rotated()
        with (self._directory / ACTIVE).open("rb") as file:
            found = inspect(file, before)
        size = os.fstat(self._fd).st_size
        self._size, self._rotate_at = found.whole_bytes, self._file_bytes
        if size > self._size:
            self._cut()
        self._first_seq = None if found.first is None else found.first.seq
        last = found.last or before
        known = max(last, head, self._last, key=lambda link: link.seq)
        self._last = known
        damage = {"cut_bytes": size - self._size, "lost": known.seq - last.seq, "flaw": found.flaw or ""}
        if any(damage.values()):
            logger.error("the audit log was not as it was left", extra=damage)
            self._notes = [_note(now, "audit_recovered", "error", last_seq=last.seq, **damage)]

    def _open_files(self) -> None:
        fd = os.open(self._directory / ACTIVE, _NEW, 0o600)
        try:
            head_fd = os.open(self._directory / HEAD, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            os.close(fd)
            raise
        for old in (self._fd, self._head_fd):
            if old >= 0:
                os.close(old)
        self._fd, self._head_fd = fd, head_fd
        os.fchmod(fd, 0o600)
        os.fchmod(head_fd, 0o600)

    def _end_of_rotated(self) -> Link:
        """Return the end of the newest complete file."""
        older = rotated(self._directory)
        row = last_row(older[-1]) if older else None
        return Link() if row is None else Link(row.seq, row.hash)

    def _counted(self, now: datetime) -> Tally:
        tally, left = Tally(now.astimezone(UTC).date()), SCAN_BYTES
        for row, size in newest_first(self._directory):
            left -= size
            if left < 0:
                break
            if row is not None:
                tally.add(row)
        return tally

    # --- rotation and retention ----------------------------------------------------------------------------------

    def _rotate_when_full(self) -> None:
        if self._size < self._rotate_at or self._first_seq is None:
            return
        try:
            self._rotate(self._directory / rotated_name(self._first_seq))
        except OSError:
            self._rotate_at = self._size + self._file_bytes  # the entries matter more than the size of the file
            raise

    def _rotate(self, target: Path) -> None:
        self.sync()
        if target.exists():
            raise FileExistsError(errno.EEXIST, "a file of this name is there", str(target))
        (self._directory / ACTIVE).rename(target)
        fd = os.open(self._directory / ACTIVE, _NEW | os.O_EXCL, 0o600)
        os.close(self._fd)
        self._fd, self._size, self._first_seq, self._rotate_at = fd, 0, None, self._file_bytes
        self._retain_at = _LONG_AGO

    def _retain(self, now: datetime) -> Sequence[Entry]:
        """Delete the files that are too old, after saying so in an entry, and return that entry."""
        if now < self._retain_at:
            return ()
        self._retain_at = now + RETENTION_CHECK
        files = rotated(self._directory)
        over = self._too_old(files, now)
        if not over:
            return ()
        behind = first_seq_of(files[len(over)]) if len(files) > len(over) else self._first_seq
        last_seq = (behind or self._last.seq + 1) - 1
        told = self._put([_note(now, "audit_retention", files=len(over), last_seq=last_seq)])
        self.sync()
        for path in over:
            path.unlink(missing_ok=True)
        self.oldest_seq = last_seq + 1
        return told

    def _too_old(self, files: Sequence[Path], now: datetime) -> Sequence[Path]:
        """Return the oldest of `files`, up to the first one whose newest entry is to be kept."""
        for count, path in enumerate(files):
            row = last_row(path)
            newest = datetime.fromtimestamp(path.stat().st_mtime, UTC) if row is None else row.timestamp
            if newest >= now - self._retention:
                return files[:count]
        return files


def _note(now: datetime, action: str, outcome: Outcome = "success", **details: object) -> Entry:
    return entry(now, action, outcome, details)
