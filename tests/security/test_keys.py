import hmac
import logging
import re
import string
from datetime import UTC, datetime
from hashlib import sha256
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from argentor_asgi.api_keys import ApiKey, Secret, parse_key
from argentor_asgi.security.identity import Principal
from argentor_asgi.security.keys import VERIFIED, Credential, Keys, credential_of, entry_of, epoch_s, new_key

VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F))
PLAIN = st.text(string.ascii_letters + string.digits, min_size=1, max_size=20)
NOW_S = 1_800_000_000.0


def keys(*entries: str) -> Keys:
    return Keys(parse_key(Secret(entry)) for entry in entries)


def digest_of(text: str) -> bytes:
    return sha256(text.encode()).digest()


def who(held: Keys, presented: bytes, now_s: float = NOW_S) -> Principal | None:
    found = held.verify(presented, now_s)
    return None if found is None else found.principal


def test_a_named_key_stands_for_its_name():
    assert who(keys("ops:abc"), b"abc") == Principal("ops")


def test_a_hashed_key_is_known_without_being_held():
    assert who(keys(f"ops:sha256:{sha256(b'abc').hexdigest()}"), b"abc") == Principal("ops")


def test_a_key_without_a_name_is_named_after_its_digest():
    assert who(keys("abc"), b"abc") == Principal(f"key-{sha256(b'abc').hexdigest()[:8]}")


def test_a_key_may_hold_colons_behind_its_name():
    assert who(keys("ops:a:b:c"), b"a:b:c") == Principal("ops")


def test_a_key_says_what_its_holder_may_where_and_under_which_plan():
    until = datetime(2030, 1, 1, tzinfo=UTC)
    held = Keys([ApiKey("ci", digest_of("abc"), ("chat:write",), "acme", "pro", until)])
    found = held.verify(b"abc", NOW_S)
    assert (found.principal.id, found.principal.tenant, found.principal.key_id) == ("ci", "acme", "ci")
    assert (found.principal.scopes, found.principal.plan) == ({"chat:write"}, "pro")
    assert found.expires_s == until.timestamp() == epoch_s(until)
    assert epoch_s(None) == inf


@pytest.mark.parametrize("presented", [b"", b"ab", b"abcd", b"ABC", b"ops", b"ops:abc", b" abc", b"abc\n", b"abc\0"])
def test_what_is_not_exactly_the_key_is_refused(presented: bytes):
    assert keys("ops:abc").verify(presented, NOW_S) is None


def test_the_digest_itself_is_no_key():
    digest = sha256(b"abc").hexdigest()
    assert keys(f"ops:sha256:{digest}").verify(digest.encode(), NOW_S) is None


def test_a_key_is_taken_at_its_longest_and_refused_beyond():
    assert who(keys("ops:" + "k" * 1024), b"k" * 1024) == Principal("ops")
    assert keys("ops:abc").verify(b"k" * 1_000_000, NOW_S) is None


def test_a_key_opens_until_its_end_and_not_at_it_whether_it_is_remembered_or_not():
    held = Keys([ApiKey("ci", digest_of("abc"), expires_at=datetime.fromtimestamp(NOW_S, UTC))])
    assert who(held, b"abc", NOW_S - 0.001) == Principal("ci")
    assert held.is_known(b"abc")
    assert who(held, b"abc", NOW_S) is None
    assert not held.is_known(b"abc")
    assert who(held, b"abc", NOW_S) is None


def test_a_key_is_known_once_it_was_good_and_not_before():
    held = keys("ops:abc")
    assert not held.is_known(b"abc")
    held.verify(b"abc", NOW_S)
    assert held.is_known(b"abc")
    assert not held.is_known(b"abd")


def test_using_a_key_marks_it_each_time_also_when_it_is_remembered():
    held = keys("ops:abc")
    credential = held.get("ops")
    assert not credential.is_used
    for _ in range(2):
        held.verify(b"abc", NOW_S)
        assert credential.is_used
        credential.is_used = False
    held.verify(b"abd", NOW_S)
    assert not credential.is_used


def test_a_removed_key_opens_nothing_and_has_expired_for_whoever_still_holds_its_credential():
    held = keys("ops:abc", "dev:def")
    credential = held.verify(b"abc", NOW_S)
    assert held.remove("ops") is credential
    assert credential.expires_s == -inf
    assert held.verify(b"abc", NOW_S) is None
    assert not held.is_known(b"abc")
    assert held.get("ops") is None
    assert held.remove("ops") is None
    assert ([each.principal.id for each in held], len(held)) == (["dev"], 1)


def test_a_key_that_is_added_opens_at_once():
    held = Keys()
    assert held.verify(b"abc", NOW_S) is None
    credential = credential_of(ApiKey("ops", digest_of("abc")))
    held.add(credential)
    assert held.verify(b"abc", NOW_S) is credential is held.get("ops")


@pytest.mark.parametrize(
    "principal", [Principal("x", key_id="ops"), Principal("x", key_id=None), Principal("x", key_id="other")]
)
def test_an_id_or_a_key_that_is_there_is_not_added_again(principal: Principal):
    held = keys("ops:abc")
    with pytest.raises(ValueError, match="key"):
        held.add(Credential(principal, digest_of("abc" if principal.key_id == "other" else "new")))
    assert len(held) == 1
    assert who(held, b"abc") == Principal("ops")


def test_no_more_than_the_bound_are_remembered_and_the_rest_are_good_all_the_same():
    held = keys(*(f"name-{n}:key-{n}" for n in range(VERIFIED + 1)))
    for _ in range(2):
        for n in range(VERIFIED + 1):
            assert who(held, f"key-{n}".encode()) == Principal(f"name-{n}")
    assert len(held._verified) == VERIFIED
    assert held.is_known(f"key-{VERIFIED}".encode())


@pytest.mark.slow
def test_a_hundred_thousand_wrong_keys_leave_nothing_behind():
    held = keys("ops:abc", "dev:def")
    held.verify(b"abc", NOW_S)
    for n in range(100_000):
        assert held.verify(b"guess-%d" % n, NOW_S) is None
    assert (list(held._verified), len(held), len(held._by_digest)) == ([b"abc"], 2, 2)


def test_a_remembered_key_is_the_same_credential():
    held = keys("ops:abc")
    assert held.verify(b"abc", NOW_S) is held.verify(b"abc", NOW_S)


def test_nothing_shows_a_key_or_its_digest(caplog: pytest.LogCaptureFixture):
    made = new_key()
    held = keys(entry_of(made, "ops"))
    credential = held.verify(made.text.reveal().encode(), NOW_S)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("argentor").warning("%s %r %s %s", credential, made, held, parse_key(Secret("ops:abcdefgh")))
    shown = caplog.text + repr(credential) + str(credential) + f"{made}" + repr(held) + repr(list(held))
    assert made.text.reveal() not in shown
    assert repr(made.digest)[2:-1] not in shown
    assert made.digest.hex() not in shown
    assert "abcdefgh" not in shown


def test_a_new_key_fits_its_entry_and_is_not_in_it():
    made = new_key()
    text, entry = made.text.reveal(), entry_of(made, "ops")
    assert re.fullmatch(rf"agtr_{made.id}_[A-Za-z0-9_-]{{43}}", text)
    assert re.fullmatch(r"[a-z0-9]{12}", made.id)
    assert who(keys(entry), text.encode()) == Principal("ops")
    assert text not in entry
    assert hmac.compare_digest(made.digest, digest_of(text))


def test_a_new_key_without_a_name_is_called_by_its_id():
    made = new_key()
    assert who(keys(entry_of(made)), made.text.reveal().encode()) == Principal(made.id)


def test_two_new_keys_differ():
    one, other = new_key(), new_key()
    assert one.id != other.id
    assert one.text != other.text


@pytest.mark.parametrize("name", ["a b", "a:b", "anonymous", "sha256", "é", "x" * 65])
def test_a_new_key_needs_a_name_that_can_be_configured(name: str):
    with pytest.raises(ValueError, match="a name is"):
        entry_of(new_key(), name)


@given(st.lists(PLAIN, min_size=1, max_size=8, unique=True), st.binary(max_size=30))
def test_only_the_keys_configured_open(plain: list[str], guess: bytes):
    held = keys(*(f"n{at}:{key}" for at, key in enumerate(plain)))
    assert [who(held, key.encode()) for key in plain] == [Principal(f"n{at}") for at in range(len(plain))]
    assert (held.verify(guess, NOW_S) is not None) == (guess in {key.encode() for key in plain})


@given(st.text(max_size=40) | st.text(VISIBLE, max_size=40))
def test_any_entry_is_a_key_or_a_value_error_that_does_not_show_it(entry: str):
    try:
        parsed = parse_key(Secret(entry))
    except ValueError as error:
        assert len(entry) < 12 or entry not in str(error)  # noqa: PT017  both ends of the try are right
    else:
        assert len(parsed.digest) == 32
        assert parsed.name not in {"", "anonymous", "sha256"}


NAMES = st.sampled_from("abcd")


class KeysMachine(RuleBasedStateMachine):
    """However keys come, go and end, exactly those open that are there and have not ended."""

    def __init__(self):
        super().__init__()
        self.held = Keys()
        self.ends: dict[str, float] = {}
        self.now_s = 0.0

    @rule(name=NAMES, lasts_s=st.sampled_from([1.0, 3.0, inf]))
    def add(self, name: str, lasts_s: float):
        credential = Credential(Principal(name, key_id=name), digest_of(name), self.now_s + lasts_s)
        if name in self.ends:
            with pytest.raises(ValueError, match="id of its own"):
                self.held.add(credential)
        else:
            self.held.add(credential)
            self.ends[name] = credential.expires_s

    @rule(name=NAMES)
    def remove(self, name: str):
        assert (self.held.remove(name) is None) == (self.ends.pop(name, None) is None)

    @rule(name=NAMES, within_s=st.sampled_from([0.0, 2.0]))
    def shorten(self, name: str, within_s: float):
        if name in self.ends:
            self.ends[name] = self.held.get(name).expires_s = min(self.ends[name], self.now_s + within_s)

    @rule(step_s=st.sampled_from([0.5, 1.0, 2.0]))
    def wait(self, step_s: float):
        self.now_s += step_s

    @rule(name=NAMES)
    def present(self, name: str):
        opens = self.now_s < self.ends.get(name, -inf)
        assert (self.held.verify(name.encode(), self.now_s) is not None) == opens
        assert self.held.is_known(name.encode()) == opens

    @invariant()
    def only_keys_are_remembered(self):
        assert {each.decode() for each in self.held._verified} <= set(self.ends)
        assert len(self.held) == len(self.ends)


TestKeysMachine = KeysMachine.TestCase
TestKeysMachine.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
