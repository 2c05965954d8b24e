"""`argentor_asgi.protocol.trace` against the rules of W3C Trace Context, its examples, and whatever bytes there are."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from argentor_asgi.protocol.trace import (
    FUTURE_BYTES,
    STATE_BYTES,
    STATE_MEMBERS,
    Trace,
    child_header,
    parse,
    prefix,
    state,
)

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
SOUND = b"00-%b-%b-01" % (TRACE, SPAN)

HEX = "0123456789abcdef"
hex_of = lambda size: st.text(HEX, min_size=size, max_size=size)  # noqa: E731  a strategy by its size
ids = lambda size: hex_of(size).filter(lambda text: text.strip("0"))  # noqa: E731  as above
MEMBERS = st.builds(
    "{}={}".format,
    st.from_regex(r"[a-z][_0-9a-z\-*/]{0,10}", fullmatch=True)
    | st.from_regex(r"[a-z0-9][_0-9a-z\-*/]{0,6}@[a-z][_0-9a-z\-*/]{0,5}", fullmatch=True),
    st.from_regex(r"[ -+\--<>-~]{0,10}[!-+\--<>-~]", fullmatch=True),
)


def test_the_example_of_the_standard_is_read():
    assert parse(SOUND) == Trace(TRACE, SPAN, sampled=True, state=b"")
    assert parse(b"00-%b-%b-00" % (TRACE, SPAN)) == Trace(TRACE, SPAN, sampled=False)


def test_the_last_bit_of_the_flags_alone_says_sampled():
    for flags in range(256):
        assert parse(b"00-%b-%b-%02x" % (TRACE, SPAN, flags)) == Trace(TRACE, SPAN, bool(flags & 1))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"00",
        SOUND[:-1],
        SOUND + b"0",
        SOUND + b"-",
        SOUND + b"-what-the-future-will-be-like",
        SOUND.upper(),
        b" " + SOUND,
        SOUND + b" ",
        SOUND + b"\n",
        SOUND + b"," + SOUND,
        SOUND + b", " + SOUND,
        SOUND.replace(b"-", b"_"),
        b"ff-%b-%b-01" % (TRACE, SPAN),
        b"0-%b-%b-01" % (TRACE, SPAN),
        b"0g-%b-%b-01" % (TRACE, SPAN),
        b"000-%b-%b-01" % (TRACE, SPAN),
        b"00-%b-%b-01" % (b"0" * 32, SPAN),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        b"00-%b-%b-1" % (TRACE, SPAN),
        b"00-%b-%b-0x" % (TRACE, SPAN),
        b"00-%b-%b-01" % (TRACE[:-1], SPAN),
        b"00-%b0-%b-01" % (TRACE, SPAN),
        b"00-%b-%b-01" % (TRACE, SPAN[:-1]),
        b"00-%b-%b-01" % (TRACE, SPAN[:-1] + b"."),
        b"cc-%b-%b-01.what-the-future-will-be-like" % (TRACE, SPAN),
        b"cc-%b-%b-01, cc-%b-%b-01" % (TRACE, SPAN, TRACE, SPAN),
        b"cc-%b-%b-01-later,%b" % (TRACE, SPAN, SOUND),
        b"cc-%b-%b-01-%b" % (TRACE, SPAN, b"x" * (FUTURE_BYTES + 1)),
    ],
)
def test_what_breaks_the_grammar_is_no_trace(header):
    assert parse(header) is None


@pytest.mark.parametrize("rest", [b"", b"-", b"-what-the-future-will-be-like", b"-" + b"x" * FUTURE_BYTES])
def test_a_later_version_is_read_by_its_first_four_fields(rest):
    assert parse(b"cc-%b-%b-01%b" % (TRACE, SPAN, rest)) == Trace(TRACE, SPAN, sampled=True)


@given(hex_of(2).filter(lambda version: version != "ff"), ids(32), ids(16), st.integers(0, 255))
def test_every_header_of_the_grammar_is_read(version, trace_id, span_id, flags):
    header = f"{version}-{trace_id}-{span_id}-{flags:02x}".encode()
    assert parse(header) == Trace(trace_id.encode(), span_id.encode(), bool(flags & 1))


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_bytes_are_a_sound_trace_or_none(header, tracestate):
    found = parse(header, tracestate)
    assert found is None or (len(found.trace_id), len(found.parent_id)) == (32, 16)
    found = parse(SOUND, tracestate)
    assert found is not None
    assert state(found.state) == found.state


@settings(max_examples=40)
@given(st.data())
def test_one_changed_byte_makes_another_sound_header_or_none(data):
    header = bytearray(SOUND)
    header[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
    found = parse(bytes(header))
    if found is not None:
        assert set(found.trace_id + found.parent_id) <= set(HEX.encode())
        assert bytes(header)[3:52] == found.trace_id + b"-" + found.parent_id


@settings(max_examples=40)
@given(ids(32), ids(16), ids(16), st.booleans())
def test_what_is_passed_on_is_read_as_the_same_trace_with_the_caller_as_parent(trace_id, parent_id, span_id, sampled):
    header = child_header(Trace(trace_id.encode(), parent_id.encode(), sampled), span_id.encode())
    assert parse(header.encode()) == Trace(trace_id.encode(), span_id.encode(), sampled)


@example(bytes(8))
@given(st.binary(min_size=8, max_size=8))
def test_the_traces_that_begin_here_begin_with_half_an_id_that_is_never_all_zeros(drawn):
    found = prefix(drawn)
    assert len(found) == 16
    assert set(found) <= set(HEX.encode())
    assert found.strip(b"0")


@pytest.mark.parametrize("drawn", [b"", b"1234567", b"123456789"])
def test_a_prefix_is_made_of_eight_bytes(drawn):
    with pytest.raises(ValueError, match="8 bytes"):
        prefix(drawn)


@settings(max_examples=40)
@given(st.lists(MEMBERS, unique_by=lambda member: member.partition("=")[0], max_size=10))
def test_a_sound_state_is_passed_on_in_its_order(members):
    value = ",".join(members).encode()
    if len(value) <= STATE_BYTES:
        assert state(value) == value


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (b" rojo=1 ,\tcongo=2 ", b"rojo=1,congo=2"),
        (b"rojo=1,,congo=2,", b"rojo=1,congo=2"),
        (b"fw529a3039@dt=FfffQ", b"fw529a3039@dt=FfffQ"),
        (b"9tenant@vendor=1", b"9tenant@vendor=1"),
        (b"a=" + b"v" * 256, b"a=" + b"v" * 256),
        (b",, ,", b""),
    ],
)
def test_a_state_is_passed_on_without_what_means_nothing(value, kept):
    assert state(value) == kept


@pytest.mark.parametrize(
    "value",
    [
        b"rojo",
        b"rojo=",
        b"=1",
        b"Rojo=1",
        b"9rojo=1",
        b"rojo=1=2",
        b"rojo=\x7f",
        b"rojo=1\r\nx-forged: 1",
        b"rojo=caf\xc3\xa9",
        b"rojo=1,rojo=2",
        b"@vendor=1",
        b"t@9=1",
        b"a=" + b"v" * 257,
        b"k" * 257 + b"=1",
        b"t@" + b"v" * 15 + b"=1",
        b"t" * 242 + b"@v=1",
    ],
)
def test_a_state_that_breaks_the_grammar_is_dropped_and_the_trace_stays(value):
    assert parse(SOUND, value) == Trace(TRACE, SPAN, sampled=True, state=b"")


def test_a_state_is_bounded_in_bytes_and_members():
    assert state(b"a=" + b"v" * 200 + b",b=" + b"v" * 200 + b",c=" + b"v" * (STATE_BYTES - 408))
    assert not state(b"a=" + b"v" * 200 + b",b=" + b"v" * 200 + b",c=" + b"v" * (STATE_BYTES - 407))
    members = [b"k%d=1" % number for number in range(STATE_MEMBERS + 1)]
    assert state(b",".join(members[:-1]))
    assert not state(b",".join(members))
