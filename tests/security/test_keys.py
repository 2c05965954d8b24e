import re
import string
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.config import Secret
from argentor_asgi.security.identity import Principal
from argentor_asgi.security.keys import VERIFIED, Keys, new_key
from argentor_asgi.api_keys import parse_key

VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F))
PLAIN = st.text(string.ascii_letters + string.digits, min_size=1, max_size=20)


def keys(*entries: str) -> Keys:
    return Keys(Secret(entry) for entry in entries)


def test_a_named_key_stands_for_its_name():
    assert keys("ops:abc").verify(b"abc") == Principal("ops")


def test_a_hashed_key_is_known_without_being_held():
    assert keys(f"ops:sha256:{sha256(b'abc').hexdigest()}").verify(b"abc") == Principal("ops")


def test_a_key_without_a_name_is_named_after_its_digest():
    assert keys("abc").verify(b"abc") == Principal(f"key-{sha256(b'abc').hexdigest()[:8]}")


def test_a_key_may_hold_colons_behind_its_name():
    assert keys("ops:a:b:c").verify(b"a:b:c") == Principal("ops")


@pytest.mark.parametrize("presented", [b"", b"ab", b"abcd", b"ABC", b"ops", b"ops:abc", b" abc", b"abc\n", b"abc\0"])
def test_what_is_not_exactly_the_key_is_refused(presented: bytes):
    assert keys("ops:abc").verify(presented) is None


def test_the_digest_itself_is_no_key():
    digest = sha256(b"abc").hexdigest()
    assert keys(f"ops:sha256:{digest}").verify(digest.encode()) is None


def test_a_key_is_taken_at_its_longest_and_refused_beyond():
    assert keys("ops:" + "k" * 1024).verify(b"k" * 1024) == Principal("ops")
    assert keys("ops:abc").verify(b"k" * 1_000_000) is None


def test_no_more_than_the_bound_are_remembered_and_the_rest_are_good_all_the_same():
    held = keys(*(f"name-{n}:key-{n}" for n in range(VERIFIED + 1)))
    for _ in range(2):
        for n in range(VERIFIED + 1):
            assert held.verify(f"key-{n}".encode()) == Principal(f"name-{n}")
    assert len(held._verified) == VERIFIED


def test_wrong_keys_are_not_remembered():
    held = keys("ops:abc")
    for n in range(100):
        held.verify(f"guess-{n}".encode())
    assert held._verified == {}


def test_a_remembered_key_is_the_same_principal():
    held = keys("ops:abc")
    assert held.verify(b"abc") is held.verify(b"abc")


def test_a_new_key_fits_its_entry_and_is_not_in_it():
    key, entry = new_key("ops")
    assert re.fullmatch(r"ak_[A-Za-z0-9_-]{43}", key)
    assert keys(entry).verify(key.encode()) == Principal("ops")
    assert key not in entry


def test_two_new_keys_differ():
    assert new_key()[0] != new_key()[0]


@pytest.mark.parametrize("name", ["a b", "a:b", "anonymous", "sha256", "é", "x" * 65])
def test_a_new_key_needs_a_name_that_can_be_configured(name: str):
    with pytest.raises(ValueError, match="an API key"):
        new_key(name)


@given(st.lists(PLAIN, min_size=1, max_size=8, unique=True), st.binary(max_size=30))
def test_only_the_keys_configured_open(plain: list[str], guess: bytes):
    held = keys(*(f"n{at}:{key}" for at, key in enumerate(plain)))
    assert [held.verify(key.encode()) for key in plain] == [Principal(f"n{at}") for at in range(len(plain))]
    assert (held.verify(guess) is not None) == (guess in {key.encode() for key in plain})


@given(st.text(max_size=40) | st.text(VISIBLE, max_size=40))
def test_any_entry_is_a_key_or_a_value_error_that_does_not_show_it(entry: str):
    try:
        parsed = parse_key(Secret(entry))
    except ValueError as error:
        assert len(entry) < 12 or entry not in str(error)  # noqa: PT017  both ends of the try are right
    else:
        assert len(parsed.digest) == 32
        assert parsed.name not in {"", "anonymous", "sha256"}
