import ipaddress
import json
import uuid
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skillcalls import answer, refusal

from argentor_asgi.agent.builtin_skills.data_validator import _CHECKS, VALUE_BYTES, Operation, _Invalid, data_validator

VALID = {
    "email": ["a@b.co", "first.last+tag@sub.example.com", "x@münchen.de"],
    "url": ["https://example.com/a?b#c", "http://localhost:8080", "ws://[::1]/x", "ftp://a.b"],
    "ipv4": ["127.0.0.1", "8.8.8.8"],
    "ipv6": ["::1", "2001:db8::ff00:42:8329"],
    "uuid": [str(uuid.UUID(int=0)), "017F22E2-79B0-7CC3-98C4-DC0C0C07398F"],
    "phone": ["+34 600 123 456", "(555) 123-4567", "0034600123456"],
    "credit_card": ["4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005", "6011111111111117"],
    "date": ["2026-11-22", "2024-02-29"],
    "datetime": ["2026-11-22T10:30:00Z", "2026-11-22 10:30:00.123456+02:00", "2026-11-22t10:30:00"],
    "hex_color": ["#fff", "#FFF8", "#a1b2c3", "#a1b2c3d4"],
    "semver": ["1.0.0", "1.2.3-alpha.1+build.5", "0.0.0-0a", "1.0.0+001"],
    "json": ['{"a": [1]}', "null", "1", '"x"', "true"],
    "base64": ["", "aGk=", "aGk/"],
    "domain": ["example.com", "a-b.co.uk", "münchen.de"],
    "mac_address": ["00:1A:2b:3c:4d:5e", "00-1a-2b-3c-4d-5e"],
}
INVALID = {
    "email": [
        "",
        "a",
        "@b.co",
        "a@",
        "a@b",
        "a..b@c.de",
        ".a@b.co",
        "a b@c.de",
        "a@-b.co",
        "a@b.co\n",
        "x" * 65 + "@b.co",
    ],
    "url": [
        "",
        "example.com",
        "javascript:alert(1)",
        "http://",
        "http://a b",
        "http://a:99999",
        "http://[::1",
        "http://-a",
    ],
    "ipv4": ["", "256.1.1.1", "1.2.3", "01.2.3.4", "::1", "1.2.3.4\n"],
    "ipv6": ["", "127.0.0.1", ":::", "12345::", "fe80::1%" + "a" * 57],
    "uuid": ["", "x", "017f22e279b07cc398c4dc0c0c07398f", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f\n"],
    "phone": ["", "12345", "1" * 16, "12345a7890", "++34600123456", "٣٤٦٠٠١٢٣٤٥٦"],
    "credit_card": ["", "4111111111111112", "41111111111", "4" * 20, "4111x1111"],
    "date": ["", "2026-02-30", "22/11/2026", "20261122", "2026-11-22T00:00:00"],
    "datetime": ["", "2026-11-22", "2026-11-22T25:00:00Z", "2026-02-30T10:00:00"],
    "hex_color": ["", "fff", "#ff", "#fffff", "#ggg", "#fff\n"],
    "semver": ["", "1.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0+", "v1.0.0", "1.0.0-a..b", "1.0.0.0"],
    "json": ["", "{", "{'a': 1}", "9" * 5000, "NaN", "[" * 65 + "]" * 65, '{"a":1,"a":2}'],
    "base64": ["a", "aGk", "a$k=", "====", "aG=k"],
    "domain": [
        "",
        "localhost",
        "-a.com",
        "a..com",
        "a.com.",
        "1.2.3.4",
        "x" * 64 + ".com",
        "a." * 127 + "com",
        "é" * 300,
    ],
    "mac_address": ["", "00:1a:2b:3c:4d", "00:1a-2b:3c:4d:5e", "001a2b3c4d5e"],
}


def test_the_operations_offered_are_the_operations_there_are() -> None:
    assert set(get_args(Operation)) == set(_CHECKS) == set(VALID) == set(INVALID)


@pytest.mark.parametrize(("operation", "value"), [(name, value) for name, some in VALID.items() for value in some])
async def test_what_is_well_formed_is_valid(operation: str, value: str) -> None:
    got = await answer(data_validator, operation=operation, value=value)
    assert (got["valid"], got["format"]) == (True, operation), got


@pytest.mark.parametrize(("operation", "value"), [(name, value) for name, some in INVALID.items() for value in some])
async def test_what_is_not_is_invalid_with_a_reason(operation: str, value: str) -> None:
    got = await answer(data_validator, operation=operation, value=value)
    assert (got["valid"], got["format"]) == (False, operation), got
    assert got["details"]["reason"]


async def test_details_say_what_was_read() -> None:
    color = await answer(data_validator, operation="hex_color", value="#f08")
    assert color["details"] == {"red": 255, "green": 0, "blue": 136}
    card = await answer(data_validator, operation="credit_card", value="4111111111111111")
    assert card["details"] == {"network": "visa"}
    assert (await answer(data_validator, operation="json", value="[1]"))["details"] == {"type": "array"}


async def test_a_value_is_taken_to_the_bound() -> None:
    assert (await answer(data_validator, operation="base64", value="a" * VALUE_BYTES))["valid"]
    assert "too long" in await refusal(data_validator, operation="base64", value="a" * (VALUE_BYTES + 1))


@pytest.mark.parametrize("operation", sorted(_CHECKS))
def test_a_long_adversarial_value_is_answered(operation: str) -> None:
    for piece in ("a", "1", ".", "-", "@", "é", "a.", "1-", "[", " ", "a@", "+a"):
        holds(operation, (piece * 10**5)[: 10**5])


def holds(operation: str, value: str) -> bool:
    try:
        _CHECKS[operation](value)
    except _Invalid:
        return False
    return True


@settings(max_examples=25)
@given(st.ip_addresses(), st.uuids(), st.dates(), st.datetimes(timezones=st.timezones()))
def test_what_the_library_writes_is_valid(address: object, made: uuid.UUID, day: object, moment: object) -> None:
    assert holds("ipv4" if isinstance(address, ipaddress.IPv4Address) else "ipv6", str(address))
    assert holds("uuid", str(made))
    assert holds("date", str(day))
    text = moment.isoformat()
    assert holds("datetime", text) or text.count(":") > 3


@given(st.text(max_size=30))
def test_every_check_answers_on_any_text(text: str) -> None:
    for operation in _CHECKS:
        holds(operation, text)
    assert holds("json", json.dumps(text))
