import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.agent.opt_in_skills.fitting import fitted_text


def size(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())


@given(st.binary(max_size=200), st.integers(32, 300), st.booleans())
def test_a_text_fits_and_a_short_one_is_whole(data: bytes, limit: int, is_end: bool) -> None:
    text, used = fitted_text(data, "utf-8", is_end=is_end, limit_bytes=limit)
    assert size(text) <= limit
    assert used <= len(data)
    whole = data.decode("utf-8", "replace")
    if is_end and size(whole) <= limit:
        assert (text, used) == (whole, len(data))


@given(st.text(max_size=100), st.integers(32, 64))
def test_pieces_put_together_are_the_text(text: str, limit: int) -> None:
    data, pieces = text.encode("utf-8", "replace"), list[str]()
    while data:
        piece, used = fitted_text(data, "utf-8", is_end=True, limit_bytes=limit)
        assert used > 0
        pieces.append(piece)
        data = data[used:]
    assert "".join(pieces) == text.encode("utf-8", "replace").decode()


def test_a_character_that_is_cut_is_left_for_the_next_piece() -> None:
    assert fitted_text("a\u20ac".encode()[:3], "utf-8", is_end=False) == ("a", 1)
    assert fitted_text("a\u20ac".encode()[:3], "utf-8", is_end=True) == ("a\ufffd", 3)


@pytest.mark.parametrize("charset", ["utf-16", "latin-1", "gb18030", "shift_jis", "euc-kr", "windows-1251", "big5"])
def test_every_charset_says_how_much_it_used(charset: str) -> None:
    data = "abc".encode(charset)
    assert fitted_text(data, charset, is_end=True) == ("abc", len(data))
