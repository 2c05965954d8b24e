# ruff: noqa: RUF001  letters that look like others are what is tested
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.agent.guardrails.numbers import NUMBER_CHARS, _card_lengths, _luhn, is_iban, numbers
from argentor_asgi.agent.guardrails.pii import PersonalData
from argentor_asgi.agent.guardrails.views import Found, view

PII = PersonalData()


def found(text: str) -> list[tuple[str, str]]:
    """Return what is found; of what overlaps the first, and the longest of those."""
    kept: list[Found] = []
    for each in sorted(PII.look(view(text))[0], key=lambda found: (found.start, -found.end)):
        if not kept or each.start >= kept[-1].end:
            kept.append(each)
    return [(text[each.start : each.end], each.replacement) for each in kept]


@pytest.mark.parametrize(
    "card",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4222222222222",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "3782 822463 10005",
        "30569309025904",
        "6011111111111117",
        "3530111333300000",
        "6200000000000005",
        "６０１１１１１１１１１１１１１７",
        "٤١١١ ١١١١ ١١١١ ١١١١",
        "4\u200b1\u200c1\u200d1\ufeff111111111111",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
    ],
)
def test_a_card_number_is_found_however_it_is_written(card: str) -> None:
    for text in (card, f"card: {card}.", f"({card})", f"卡号{card}号", f"{card}, 12/29"):
        assert found(text) == [(card, "[CREDIT_CARD]")]


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # Luhn
        "9111111111111111",  # no issuer
        "41111111111111111111",  # 20 digits
        "1234567890123456",
        "94111111111111111",
        "4111111111111111a",
        "0.4111111111111111",
        "411111111111",
        "4111  1111  1111  1111",
        "37828224631000",
    ],
)
def test_what_is_no_card_number_stays(text: str) -> None:
    assert found(text) == []


def test_a_card_number_beside_another_number_is_one() -> None:
    assert found("4111 1111 1111 1111 123") == [("4111 1111 1111 1111", "[CREDIT_CARD]")]
    assert found("1 4111 1111 1111 1111") == [("4111 1111 1111 1111", "[CREDIT_CARD]")]


@pytest.mark.parametrize(
    "phone",
    [
        "+34 612 345 678",
        "+34612345678",
        "+1 (415) 555-0123",
        "+44 (0)20 7946 0958",
        "+49-30-1234567",
        "+33.6.12.34.56.78",
        "(415) 555-0123",
        "(415)555-0123",
        "415-555-0123",
        "415.555.0123",
        "415 555 0123",
        "1-415-555-0123",
        "555-123-4567",
        "020 7946 0958",
        "(020) 7946 0958",
        "01632 960123",
        "06 12 34 56 78",
        "0171/1234567",
        "0034 612 345 678",
        "＋３４ ６１２ ３４５ ６７８",
        "415‑555‑0123",
    ],
)
def test_a_phone_number_is_found(phone: str) -> None:
    for text in (phone, f"tel:{phone}", f"Call {phone}, please", f"{phone}."):
        assert found(text) == [(phone, "[PHONE]")]


@pytest.mark.parametrize(
    "text",
    [
        "1732345678901",
        "1732345678",
        "2026-11-23 06:50:19.123456",
        "2026-11-23T06:50:19Z",
        "2026-11-23 06:50:19 +0000",
        "01.12.2026 10:30",
        "01-12-2026",
        "192.168.100.200",
        "3.14159265358979",
        "12345678901234567890",
        "1,234,567,890",
        "6 * 7 = 42, 2+1234567890",
        "550e8400-e29b-41d4-a716-446655440000",
        "pages 100-200",
        "1 000 000 000",
        "version 10.20.30.40",
        "0.1234567890123",
        "+12 34",
        "call 555-0123",
        "1e-0123456789",
    ],
)
def test_numbers_that_are_no_phone_numbers_stay(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("078-05-1120", "[SSN]"),
        ("219 09 9999", "[SSN]"),
        ("AB123456C", "[NATIONAL_ID]"),
        ("ab 12 34 56 c", "[NATIONAL_ID]"),
        ("12345678Z", "[NATIONAL_ID]"),
        ("12.345.678-Z", "[NATIONAL_ID]"),
        ("12345678 Z", "[NATIONAL_ID]"),
        ("X1234567L", "[NATIONAL_ID]"),
        ("y-1234567-x", "[NATIONAL_ID]"),
        ("GB82 WEST 1234 5698 7654 32", "[IBAN]"),
        ("gb82west12345698765432", "[IBAN]"),
        ("DE89 3704 0044 0532 0130 00", "[IBAN]"),
        ("ES91-2100-0418-4502-0005-1332", "[IBAN]"),
        ("NO9386011117947", "[IBAN]"),
        ("MT84MALT011000012345MTLCAST001S", "[IBAN]"),
    ],
)
def test_national_ids_and_accounts_are_found(text: str, mark: str) -> None:
    for sentence in (text, f"Mine is {text}, and yours?"):
        start = sentence.index(text)
        first = PII.look(view(sentence))[0][0]
        assert (first.start, first.end, first.replacement) == (start, start + len(text), mark)


@pytest.mark.parametrize(
    "text",
    [
        "000-12-3456",
        "666-12-3456",
        "912-12-3456",
        "123-00-4567",
        "123-45-0000",
        "123-45 6789",
        "12345678A",  # check letter
        "X1234567A",
        "10000028 a year",
        "GB123456C",
        "QQ123456C",
        "AB123456E",
        "GB82 WEST 1234 5698 7654 33",  # check digits
        "DE89 3704 0044 0532 0130",  # too short
        "ZZ82 WEST 1234 5698 7654 32",  # no such country
    ],
)
def test_what_only_looks_like_an_id_stays(text: str) -> None:
    assert not {mark for _, mark in found(text)} & {"[SSN]", "[NATIONAL_ID]", "[IBAN]"}


def luhn(digits: str) -> bool:
    """Return the check as ISO/IEC 7812-1 annex B words it."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value // 10 + value % 10
    return total % 10 == 0


@given(st.from_regex(r"4[0-9]{15}", fullmatch=True))
def test_a_card_is_what_luhn_says(digits: str) -> None:
    assert (_luhn(digits) % 10 == 0) == luhn(digits)


@given(st.from_regex(r"[0-9]{18}", fullmatch=True))
def test_one_account_of_a_hundred_and_no_other_has_the_right_check_digits(number: str) -> None:
    assert sum(is_iban(f"de{check:02}{number}") for check in range(2, 99)) == 1


def cards_of(text: str) -> list[str]:
    """Return the cards of an ASCII text by trying every part of it: leftmost, and of those the longest."""
    cards, at = [], 0
    while at < len(text):
        ends = [end for end in range(len(text), at, -1) if is_written_card(text, at, end)]
        cards += [text[at : ends[0]]] if ends else []
        at = ends[0] if ends else at + 1
    return cards


def is_written_card(text: str, start: int, end: int) -> bool:
    around = re.search(r"[0-9a-zA-Z]\Z|[0-9]\.\Z", text[:start]) or re.match(r"[0-9a-zA-Z]", text[end:])
    written = re.fullmatch(r"[0-9](?:[ -]?[0-9])*", text[start:end])
    digits = re.sub("[ -]", "", text[start:end])
    return not around and written is not None and len(digits) in _card_lengths(digits) and luhn(digits)


pieces = st.sampled_from(["4111", "1111", "411111111111111", "1", "0", " ", "-", ".", "a", "378282246310005", "  "])


@settings(max_examples=80)
@given(st.lists(pieces, max_size=12).map("".join))
def test_the_cards_found_are_those_of_a_slow_reference(text: str) -> None:
    assert [card for card, mark in found(text) if mark == "[CREDIT_CARD]"] == cards_of(text)


@pytest.mark.parametrize(
    "text",
    ["(1111) 222 3333 4444 5555", "1" * 60, "+1" + " (1" * 20, "+1" + "  1" * 14, "mt84" + "-malt" * 8, "4 " * 30],
)
def test_no_number_is_longer_than_what_a_stream_holds_for_it(text: str) -> None:
    assert all(len(number) < NUMBER_CHARS - 2 for number, _ in found(text))


@pytest.mark.parametrize(
    "text",
    [
        "85f5918b-c454-4b06-be58-71bf4895f685",
        "27151330-5279-4451-ad73-84f20879a341",
        "36003012-7632-4340-ae6f-0e47567c276c",
        "f0193eca-ad45-4723-a2b4-c9f5014b3b8d",
        "ba26f44d-2079-4acf-830a-ce7f20172f5a",
        "be01fbed-e5aa-473c-b07d-221ab2eb8eb2",
    ],
)
def test_a_uuid_whose_digits_check_is_no_number_of_a_person(text):
    assert list(numbers(f"run {text} ended", 0)) == []


@settings(max_examples=300)
@given(st.uuids())
def test_any_uuid_stays(uuid):
    assert list(numbers(f"{uuid}", 0)) == []


def test_an_account_number_is_in_one_or_in_groups_of_four_throughout():
    assert [what for *_, what in numbers("de89-3704-0044-0532-0130-00", 0)] == ["[IBAN]"]
    assert list(numbers("de89-370400440532013000", 0)) == []
