"""The skill `file_read`: text of regular files below the granted directories, whatever is done to them meanwhile.

The path is resolved and judged, then walked again from the granted directory, component by component, without following
a link: what was swapped for a link in between is an error, and never a way out.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from stat import S_ISDIR, S_ISREG
from typing import Annotated, Final

from argentor_asgi.agent.capabilities import is_within, path_fault
from argentor_asgi.agent.opt_in_skills.fitting import fitted_text
from argentor_asgi.agent.skills import FunctionSkill, SkillRefused, skill
from argentor_asgi.protocol.schema import JsonObject, Meta

READ_BYTES: Final = 1024 * 1024
"""How much of a file one call reads at most; what of it the output has no room for is left for the next call."""
CHARACTER_BYTES: Final = 4
"""The longest character in UTF-8: less is never read, so that each call gets on."""

_PLACE: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Not blocking, since to open a pipe waits for whoever writes to it."""
_SHOWN_ROOTS: Final = 10


def file_read_skill(roots: tuple[str, ...]) -> FunctionSkill:
    """Return the skill `file_read` for what is at or below `roots`, absolute paths."""
    places = ", ".join(roots[:_SHOWN_ROOTS])

    @skill(
        "file_read",
        f"Reads a text file. The files it may read are those at or below: {places}.",
        capabilities=("file_read",),
        checked_arguments={"path": "file_read"},
        thread=True,
    )
    def file_read(
        path: Annotated[str, Meta(min_length=1, max_length=4096, description="The file, as an absolute path.")],
        offset: Annotated[int, Meta(ge=0, le=2**62, description="From which byte on.")] = 0,
        max_bytes: Annotated[int, Meta(ge=CHARACTER_BYTES, le=READ_BYTES, description="How many bytes at most.")] = 64
        * 1024,
    ) -> JsonObject:
        """Return `{"path", "text", "offset", "bytes", "size", "next_offset"}`; the last is null at the end."""
        try:
            with opened(roots, path) as file:
                return {"path": path, **_read(file, offset, max_bytes)}
        except OSError as error:
            raise SkillRefused(f"{path!r} cannot be read: {reason(error)}.") from None

    return file_read


@contextmanager
def opened(roots: tuple[str, ...], path: str) -> Iterator[int]:
    """Open a regular file at or below one of `roots`; yields its descriptor, and closes it.

    Raises `SkillRefused` for a path outside of them and for what is no regular file, `OSError` for what cannot be
    opened or was swapped for a link.
    """
    if (wrong := path_fault(roots, path)) is not None:
        raise SkillRefused(f"Permission denied: {wrong}.")
    real = os.path.realpath(path)
    root = next((root for root in map(os.path.realpath, roots) if is_within(root, real)), None)
    if root is None:
        raise SkillRefused("Permission denied: the path changed while it was looked at.")
    file = walked(root, real)
    try:
        kind = os.fstat(file).st_mode
        if not S_ISREG(kind):
            raise SkillRefused(f"{path!r} is {'a directory' if S_ISDIR(kind) else 'no regular file'}.")
        yield file
    finally:
        os.close(file)


def walked(root: str, path: str) -> int:
    """Open `path`, which is `root` or below it, both without links; returns a descriptor, which is the caller's.

    Each component is opened in the one before it. Raises `OSError` where one is a link or is not there.
    """
    if path == root:
        root = os.path.dirname(path)  # noqa: PTH120  a plain string, as all that is compared here
    *directories, name = path[len(root.rstrip("/")) + 1 :].split("/")
    place = os.open(root, _PLACE)
    try:
        for each in directories:
            inner = os.open(each, _PLACE, dir_fd=place)
            os.close(place)
            place = inner
        return os.open(name, _FILE, dir_fd=place)
    finally:
        os.close(place)


def _read(file: int, offset: int, max_bytes: int) -> JsonObject:
    data = b""
    while len(data) < max_bytes and (piece := os.pread(file, max_bytes - len(data), offset + len(data))):
        data += piece
    is_end = len(data) < max_bytes or not os.pread(file, 1, offset + len(data))
    text, used = fitted_text(data, "utf-8", is_end=is_end)
    is_all = is_end and used == len(data)
    return {
        "text": text,
        "offset": offset,
        "bytes": used,
        "size": os.fstat(file).st_size,
        "next_offset": None if is_all else offset + used,
    }


def reason(error: OSError) -> str:
    """Return why a file could not be read, in words that name no path."""
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case PermissionError():
            return "the gateway has no right to"
        case NotADirectoryError():
            return "a part of the path is no directory"
        case _:
            return (error.strerror or "the system refuses").lower()
