"""Content codings undone piece by piece."""

import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.net.decoding import PIECE_BYTES, Decoder
from argentor_asgi.net.failures import HttpFailed

CODINGS = {"gzip": 31, "x-gzip": 31, "GZIP": 31, "deflate": 15, " deflate": -15}
TEXTS = st.binary(max_size=300) | st.builds(bytes, st.integers(0, 3 * PIECE_BYTES))


def packed(data: bytes, window_bits: int) -> bytes:
    packer = zlib.compressobj(wbits=window_bits)
    return packer.compress(data) + packer.flush()


def undone(coding: str, *parts: bytes) -> bytes:
    decoder = Decoder(coding)
    pieces = [piece for part in parts for piece in decoder.feed(part)]
    decoder.end()
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


@given(TEXTS, st.sampled_from(sorted(CODINGS)), st.integers(1, 50))
def test_any_text_comes_back_however_it_was_cut(text, coding, size):
    data = packed(text, CODINGS[coding])
    assert undone(coding, *[data[start : start + size] for start in range(0, len(data), size)]) == text


def test_what_is_still_in_the_window_at_the_end_comes_out():
    for length in range(PIECE_BYTES, PIECE_BYTES + 600):
        assert len(undone("deflate", packed(bytes(length), -15))) == length


@given(TEXTS, TEXTS)
def test_the_members_of_gzip_follow_each_other_and_padding_follows_them(one, two):
    assert undone("gzip", packed(one, 31) + packed(two, 31) + b"\x00\x00") == one + two


@given(st.binary(min_size=1, max_size=100), st.sampled_from(["", "identity"]))
def test_without_a_coding_all_is_as_it_came(data, coding):
    assert undone(coding, data) == data


@given(st.binary(min_size=1, max_size=300), st.sampled_from(sorted(CODINGS)), st.data())
def test_a_body_that_ends_early_is_truncated(text, coding, draw):
    data = packed(text, CODINGS[coding])
    end = draw.draw(st.integers(1, len(data) - 1))
    with pytest.raises(HttpFailed) as caught:
        undone(coding, data[:end])
    assert caught.value.phase == "truncated"


@given(st.binary(max_size=300), st.sampled_from(sorted(CODINGS)))
def test_any_bytes_are_decoded_or_a_failure(data, coding):
    with suppress(HttpFailed):
        undone(coding, data)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress", "\u0130"])
def test_a_coding_that_nobody_asked_for_is_a_failure(coding):
    with pytest.raises(HttpFailed) as caught:
        Decoder(coding)
    assert caught.value.phase == "protocol"
