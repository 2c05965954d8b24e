"""Short reads on the loop thread, over a connection that can neither write nor checkpoint.

No statement stays open between two slices: a connection sees new commits only once all its statements have ended.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from argentor_asgi.errors import InvalidInput, MalformedJson
from argentor_asgi.sessions.database import open_reader
from argentor_asgi.sessions.rows import Value
from argentor_asgi.sessions.writer import unavailable

SLICE_ROWS: Final = 64
"""How many rows one read brings before the loop runs on."""
SLICE_BYTES: Final = 256 * 1024
"""After how many characters and bytes a read lets the loop run on."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing:
    """A query in the order of the columns `key`; its last parameters are the key to begin behind and a row count."""

    sql: str
    key: tuple[str, ...]


class Reader:
    """Owns the reading connection."""

    def __init__(self, path: Path) -> None:
        """Open; raises `StorageUnavailable`."""
        with _told():
            self._db = open_reader(path)
        self._db.row_factory = sqlite3.Row

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def one(self, make: Callable[[sqlite3.Row], T], sql: str, values: Sequence[Value]) -> T | None:
        """Return the first row of the query, None when there is none. Raises `StorageUnavailable`."""
        try:
            with _told():
                row = self._db.execute(sql, values).fetchone()
                return None if row is None else make(row)
        except UnicodeEncodeError:  # nothing is stored under an id that UTF-8 cannot carry
            return None

    async def many(
        self,
        make: Callable[[sqlite3.Row], T],
        listing: Listing,
        values: Sequence[Value],
        *,
        start: Sequence[Value],
        limit: int,
    ) -> list[T]:
        """Return up to `limit` rows behind the key `start`. Raises `StorageUnavailable`."""
        found: list[T] = []
        while (wanted := min(limit - len(found), SLICE_ROWS)) > 0:
            with _told():
                rows, is_end = self._slice(listing.sql, (*values, *start, wanted), wanted)
                found.extend(map(make, rows))
            if is_end:
                break
            start = [rows[-1][name] for name in listing.key]
            await asyncio.sleep(0)
        return found

    def _slice(self, sql: str, values: Sequence[Value], wanted: int) -> tuple[list[sqlite3.Row], bool]:
        """Return rows until they are heavy, and whether they are the last ones."""
        rows: list[sqlite3.Row] = []
        weight = 0
        try:
            with closing(self._db.execute(sql, values)) as found:
                for row in found:
                    rows.append(row)
                    weight += _weight(row)
                    if weight >= SLICE_BYTES:
                        return rows, False
        except UnicodeEncodeError:  # as in `one`
            return [], True
        return rows, len(rows) < wanted


def _weight(row: sqlite3.Row) -> int:
    return sum(len(value) for value in row if isinstance(value, (str, bytes)))


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the database raises, and JSON in it that is none, into `StorageUnavailable`."""
    try:
        yield
    except (sqlite3.Error, MalformedJson, InvalidInput) as error:
        raise unavailable(error) from error
