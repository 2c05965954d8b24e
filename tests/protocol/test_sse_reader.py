"""Reading server-sent events (WHATWG HTML 9.2), with the vectors of the standard and every way to cut the bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import StreamTruncated
from argentor_asgi.protocol.sse_reader import EVENT_BYTES, EventReader, ServerEvent

FIELDS = st.sampled_from(["data", "data:", "event: ", "id: ", "retry: ", ":", "other: ", "\ufeffdata:", "data: [DONE]"])
WORDS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=6)
ENDS = st.sampled_from(["\n", "\r", "\r\n"])
LINES = st.builds("{}{}{}".format, FIELDS | st.just(""), WORDS, ENDS) | ENDS
STREAMS = st.lists(LINES, max_size=12).map("".join).map(str.encode) | st.binary(max_size=60)


def read(*chunks: bytes, is_ended: bool = True) -> list[ServerEvent]:
    reader = EventReader()
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    return events + (reader.end() if is_ended else [])


def data(*chunks: bytes) -> list[str]:
    return [event.data for event in read(*chunks)]


@given(STREAMS, st.data())
def test_any_cut_of_the_bytes_gives_the_same_events(stream, choose):
    cuts = sorted(choose.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole = read(stream)
    assert read(*chunks) == whole
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == whole


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n")), min_size=1), ENDS)
def test_what_is_sent_line_by_line_is_what_is_read(lines, end):
    stream = "".join(f"data: {line}{end}" for line in lines) + end
    assert read(stream.encode()) == [ServerEvent("message", "\n".join(lines))]


def test_a_character_split_between_chunks_is_whole():
    """agent.md 1.10 D13."""
    euro = "data: 5 €\n\n".encode()
    assert data(euro[:9], euro[9:10], euro[10:]) == ["5 €"]


def test_data_needs_no_space_and_loses_only_one():
    """agent.md 1.10 D13."""
    assert data(b"data:test\n\ndata: test\n\ndata:  test\n\n") == ["test", "test", " test"]


def test_a_cr_and_its_lf_in_two_chunks_end_one_line():
    assert data(b"data: a\r", b"\ndata: b\r", b"", b"\n\r", b"\ndata: c\r\n\r\n") == ["a\nb", "c"]


def test_a_cr_alone_ends_a_line_at_once():
    assert read(b"data: a\r\r", is_ended=False) == [ServerEvent("message", "a")]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10", None)]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
            [("message", "first event", "1"), ("message", "second event", ""), ("message", " third event", "")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [("message", "", None), ("message", "\n", None), ("message", "", None)]),
        (
            b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n",
            [("add", "73857293", None), ("remove", "2153", None)],
        ),
        (b"event: lost\n\ndata: a\n\n", [("message", "a", None)]),
        (b"event: one\nevent: two\ndata: a\n\n", [("two", "a", None)]),
        (b"id: a\0b\ndata: a\n\n", [("message", "a", None)]),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [("message", "a", None)]),
        (b"retry: 10\ndata: a\nDATA: b\n\n", [("message", "a", None)]),
        (b"data: a\xff\n\n", [("message", "a\ufffd", None)]),
        (b"", []),
    ],
)
def test_the_rules_of_the_standard_hold(stream, expected):
    """The first four are its own examples; the last event of the second, which it drops, is given here."""
    assert [(event.event, event.data, event.id) for event in read(stream)] == expected


def test_a_last_event_without_its_blank_line_is_given_at_the_end_alone():
    assert read(b"data: [DONE]\n", is_ended=False) == []
    assert data(b"data: [DONE]\n") == ["[DONE]"]
    assert data(b"data: [DONE]") == ["[DONE]"]


def test_an_event_may_have_as_many_bytes_as_the_bound_and_no_more():
    line = b"data:" + b"x" * (EVENT_BYTES - 5)
    assert len(read(line + b"\n\n")) == 1
    for chunks in ((line + b"x\n\n",), (line, b"x")):
        with pytest.raises(StreamTruncated):
            read(*chunks, is_ended=False)


def test_lines_of_one_event_count_together_and_those_of_two_do_not():
    line = b"data:" + b"x" * (EVENT_BYTES // 2)
    assert len(read(line + b"\n\n" + line + b"\n\n")) == 2
    with pytest.raises(StreamTruncated):
        read(line + b"\n" + line + b"\n\n")


def test_a_flood_of_comments_and_names_is_no_event_and_takes_no_room():
    line = b"x" * 1000 + b"\n"
    reader = EventReader()
    for _ in range(3 * EVENT_BYTES // 2000):
        assert reader.feed(b": " + line + b"event: " + line) == []
    assert reader.feed(b"data: a\n\n")[0].data == "a"
