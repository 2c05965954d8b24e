"""What a message may be (core.md 11.2)."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import BodyTooLarge, ContentRejected, EmptyInput
from argentor_asgi.protocol.content import sanitise

LIMIT = 100


@pytest.mark.parametrize("text", ["", " ", "\n\t ", "\u2003"])
def test_a_blank_message_is_refused_as_empty(text):
    with pytest.raises(EmptyInput):
        sanitise(text, limit_bytes=LIMIT)


@pytest.mark.parametrize(("text", "clean"), [
    ("hello", "hello"),
    ("a\nb\tc\r\n", "a\nb\tc\r\n"),
    ("a\x00b", "ab"),
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b]0;title\x07text", "text"),
    ("x\u202ey", "xy"),
    ("x\u200by", "xy"),
    ("na\u200dme", "na\u200dme"),
    ("\x9bcsi", "csi"),
    ("ñandú 日本 🦜", "ñandú 日本 🦜"),
])  # fmt: skip
def test_control_characters_go_and_text_stays(text, clean):
    assert sanitise(text, limit_bytes=LIMIT) == clean


@pytest.mark.parametrize("text", ["\x00", "\x1b[31m", "\x07 \x08", "\ud800"])
def test_a_message_of_nothing_visible_is_rejected(text):
    with pytest.raises(ContentRejected):
        sanitise(text, limit_bytes=LIMIT)


@pytest.mark.parametrize("letter", ["a", "ñ", "🦜"])
def test_the_limit_counts_bytes_and_is_inclusive(letter):
    fits = letter * (LIMIT // len(letter.encode()))
    assert sanitise(fits, limit_bytes=LIMIT) == fits
    with pytest.raises(BodyTooLarge):
        sanitise(fits + letter, limit_bytes=LIMIT)


@given(st.text(max_size=60))
def test_what_passes_is_clean_and_passes_again_unchanged(text):
    try:
        clean = sanitise(text, limit_bytes=LIMIT * 4)
    except (EmptyInput, ContentRejected, BodyTooLarge):
        return
    assert not [c for c in clean if unicodedata.category(c) == "Cc" and c not in "\n\t\r"]
    assert sanitise(clean, limit_bytes=LIMIT * 4) == clean
