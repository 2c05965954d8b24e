"""The lock that keeps a second process off a database file."""

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Final

from argentor_asgi.errors import ConfigError

LOCK_POLL_S: Final = 0.05
"""How often a waiting process asks again."""


class FileLock:
    """An exclusive `flock` on a file of its own; the kernel frees it when the process dies, however it dies.

    The file stays: removing it would let two processes hold locks on two files of one name.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is opened yet."""
        self._path = path
        self._fd: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock unless another holds it, also another of this process. Raises `OSError`."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def holder(self) -> str:
        """Return the process id that the lock's holder wrote, `?` when it cannot be read."""
        try:
            return self._path.read_text(encoding="ascii").strip() or "?"
        except (OSError, ValueError):
            return "?"

    def release(self) -> None:
        """Free the lock; free to call twice and from any thread."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


async def lock_database(path: Path, wait_s: float) -> FileLock:
    """Lock the database file at `path` for this process, waiting up to `wait_s`, as a rolling restart needs.

    Raises `ConfigError` that names the file, its holder and the way out.
    """
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        async with asyncio.timeout(wait_s):
            while not lock.try_acquire():  # noqa: ASYNC110  another process frees it: there is no event
                await asyncio.sleep(LOCK_POLL_S)
    except TimeoutError:
        raise ConfigError(
            f"storage.url: {path} is in use by process {lock.holder()}, and one process at a time may write it; "
            "stop the other one, or set storage.url=redis://... to share the data between several"
        ) from None
    except OSError as error:
        raise ConfigError(f"storage.url: {path} cannot be locked: {error.strerror}") from error
    return lock
