"""The skill `uuid_generator`: UUIDs of version 4 and 7 (RFC 9562), made and read."""

import os
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from argentor_asgi.agent.builtin_skills.operations import Operations, perform, present
from argentor_asgi.agent.skills import SkillContext, SkillRefused, skill
from argentor_asgi.protocol.schema import JsonObject, Meta

BULK = 100
"""How many UUIDs one call makes."""

_NIL = UUID(int=0)
_UUID_CHARS = 64
_UNIX_EPOCH_100NS = 0x01B21DD213814000
_YEAR_10000_S = 253_402_300_800

Operation = Literal["generate", "generate_bulk", "parse", "validate", "nil", "is_nil"]
Version = Literal[4, 7]


def uuid4(entropy: bytes) -> UUID:
    """Return a UUID of version 4 made of 16 random bytes (RFC 9562 section 5.4)."""
    return _stamped(int.from_bytes(entropy), 4)


def uuid7(now: datetime, entropy: bytes) -> UUID:
    """Return a UUID of version 7: milliseconds since 1970, then 10 random bytes (RFC 9562 section 5.7)."""
    milliseconds = int(now.timestamp() * 1000) & (1 << 48) - 1
    return _stamped(milliseconds << 80 | int.from_bytes(entropy[:10]), 7)


def new_uuid7(now: datetime) -> UUID:
    """Return a new UUID of version 7; ids made later sort later, to the millisecond."""
    return uuid7(now, os.urandom(10))


@skill(
    "uuid_generator", "Makes UUIDs (random version 4 or time-ordered version 7), one or many; reads and checks them."
)
def uuid_generator(
    *,
    operation: Annotated[Operation, Meta(description="generate_bulk makes count of them; parse says what is in one.")],
    uuid: Annotated[str | None, Meta(description="The UUID of parse, validate and is_nil.")] = None,
    version: Annotated[Version, Meta(description="The version to generate.")] = 4,
    count: Annotated[int, Meta(ge=1, le=BULK, description="How many generate_bulk makes.")] = 1,
    context: SkillContext,
) -> JsonObject:
    """Return what the operation makes; refuses text that is no UUID, except `validate`."""
    given = present(uuid=uuid, version=version, count=count, now=context.now)
    return dict(perform(_OPERATIONS, operation, given))


def _generate(version: int, now: datetime) -> JsonObject:
    return {"uuid": str(_made(version, now)), "version": version, "variant": "RFC 9562"}


def _generate_bulk(version: int, count: int, now: datetime) -> JsonObject:
    return {"uuids": [str(_made(version, now)) for _ in range(count)], "count": count, "version": version}


def _parse(uuid: str) -> JsonObject:
    read = _read(uuid)
    found = {"uuid": str(read), "version": read.version, "variant": _variant(read), "hex": read.hex, "urn": read.urn}
    time = _time(read)
    return found if time is None else {**found, "timestamp": time}


def _validate(uuid: str) -> JsonObject:
    try:
        return {"valid": True, "version": _read(uuid).version}
    except SkillRefused:
        return {"valid": False, "version": None}


def _nil() -> JsonObject:
    return {"uuid": str(_NIL)}


def _is_nil(uuid: str) -> JsonObject:
    return {"result": _read(uuid) == _NIL}


_OPERATIONS: Operations = {
    "generate": _generate,
    "generate_bulk": _generate_bulk,
    "parse": _parse,
    "validate": _validate,
    "nil": _nil,
    "is_nil": _is_nil,
}


def _made(version: int, now: datetime) -> UUID:
    return new_uuid7(now) if version == 7 else uuid4(os.urandom(16))  # noqa: PLR2004  the name of the version


def _stamped(number: int, version: int) -> UUID:
    """Write version and variant over the bits that RFC 9562 section 4 gives them."""
    number = number & ~(0xF << 76) | version << 76
    return UUID(int=number & ~(0x3 << 62) | 0x2 << 62)


def _read(text: str) -> UUID:
    """Return the UUID written in `text`: 32 hexadecimal digits, with hyphens, in braces, or as a URN."""
    try:
        return UUID(text.strip() if len(text) <= _UUID_CHARS else "")
    except ValueError:
        raise SkillRefused(f"{text[:_UUID_CHARS]!r} is not a UUID.") from None


def _variant(read: UUID) -> str:
    return "RFC 9562" if read.variant == "specified in RFC 4122" else read.variant


def _time(read: UUID) -> datetime | None:
    """Return when a UUID of version 1 or 7 was made, as it says itself; None beyond the year 9999."""
    seconds = {7: (read.int >> 80) / 1000, 1: (read.time - _UNIX_EPOCH_100NS) / 1e7}.get(read.version or 0)
    return None if seconds is None or seconds >= _YEAR_10000_S else datetime.fromtimestamp(seconds, UTC)
