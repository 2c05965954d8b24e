"""Trace context as the W3C defines it (Trace Context Level 2): read strictly, passed on, and begun where none came.

Ids are lower-case hex as bytes, as they stand in the header. What breaks the grammar is as good as absent: the caller
begins a trace of its own. Whether an outer caller's `sampled` is trusted is not decided here.
"""

import re
from typing import NamedTuple

STATE_BYTES = 512
"""How long a `tracestate` is passed on; a longer one is dropped whole."""
STATE_MEMBERS = 32
"""How many members a `tracestate` has (section 3.3.1.1)."""
FUTURE_BYTES = 512
"""How much a later version may have behind the four fields of this one."""

# PERF: one match and no splitting. Version 00 has nothing behind its flags; a later version may, behind another dash
# (section 4.3). No comma there: it would be a second header, joined to the first.
_PARENT = re.compile(
    rb"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]([0-9a-f])"
    rb"(?:-[!-+\--~]{0,%d})?" % FUTURE_BYTES
).fullmatch
_SAMPLED = b"13579bdf"
_KEY = rb"(?:[a-z0-9][_0-9a-z\-*/]{0,240}@[a-z][_0-9a-z\-*/]{0,13}|[a-z][_0-9a-z\-*/]{0,255})"
_MEMBER = re.compile(rb"[ \t]*(" + _KEY + rb")=[ -+\--<>-~]{0,255}[!-+\--<>-~][ \t]*").fullmatch
_PREFIX = re.compile(rb"[0-9a-f]{16}").fullmatch


class Trace(NamedTuple):
    """The trace that a request is part of.

    `parent_id`: the caller's span, empty in a trace that began here. `state`: the `tracestate` to pass on, or empty.
    """

    trace_id: bytes
    parent_id: bytes = b""
    sampled: bool = False
    state: bytes = b""


def parse(traceparent: bytes, tracestate: bytes = b"") -> Trace | None:
    """Return the trace that the headers name (repeated ones joined by commas), None unless `traceparent` is sound.

    A `tracestate` that is not sound is dropped alone. Source: W3C Trace Context sections 3.2, 3.3 and 4.3.
    """
    found = _PARENT(traceparent)
    if found is None:
        return None
    trace_id, parent_id, flags = found.groups()
    return Trace(trace_id, parent_id, flags in _SAMPLED, state(tracestate) if tracestate else b"")


def state(value: bytes) -> bytes:
    """Return a `tracestate` as it may be passed on; empty for one that breaks the grammar or a bound."""
    if len(value) > STATE_BYTES:
        return b""
    members = [member for member in value.split(b",") if member.strip(b" \t")]
    keys = {found[1] for member in members if (found := _MEMBER(member))}
    # "Only one entry per key is allowed" (section 3.3.1.3); a member without a key makes the count differ as well.
    if len(keys) != len(members) or len(members) > STATE_MEMBERS:
        return b""
    return b",".join(member.strip(b" \t") for member in members)


def prefix(drawn: bytes) -> bytes:
    """Return the first half of this process's trace ids from 8 random bytes; never all zeros."""
    found = drawn.hex().encode()
    if not _PREFIX(found):
        raise ValueError("a prefix is made of 8 bytes")
    return found if found.strip(b"0") else found[:-1] + b"1"


def child_header(trace: Trace, span_id: bytes) -> str:
    """Return the `traceparent` that tells a callee that the span `span_id` of this trace calls it (version 00)."""
    return f"00-{trace.trace_id.decode()}-{span_id.decode()}-{'01' if trace.sampled else '00'}"
