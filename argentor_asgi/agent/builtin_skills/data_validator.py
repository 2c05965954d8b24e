"""The skill `data_validator`: whether a text has a known format, in time linear in a bounded length.

Valid means well-formed: nothing is looked up, so an address may not exist and a card may not be issued.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Annotated, Literal

from argentor_asgi.agent.builtin_skills.comparing import kind_of
from argentor_asgi.agent.builtin_skills.operations import refuse_longer
from argentor_asgi.agent.skills import skill
from argentor_asgi.errors import GatewayError
from argentor_asgi.protocol.schema import JsonObject, Meta, decode_value

VALUE_BYTES = 256 * 1024
"""The longest value that is looked at, in UTF-8."""

Operation = Literal[
    "email", "url", "ipv4", "ipv6", "uuid", "phone", "credit_card", "date", "datetime", "hex_color", "semver", "json",
    "base64", "domain", "mac_address",
]  # fmt: skip

_A = re.ASCII
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", _A | re.IGNORECASE)
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+", _A)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", _A | re.IGNORECASE)
_COLOR = re.compile(r"#(?:[0-9a-f]{3}|[0-9a-f]{4}|[0-9a-f]{6}|[0-9a-f]{8})", _A | re.IGNORECASE)
_MAC = re.compile(r"[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}", _A | re.IGNORECASE)
_NUMBER = re.compile(r"0|[1-9][0-9]*", _A)
_IDENTIFIER = re.compile(r"[0-9A-Za-z-]+", _A)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", _A)
_DATETIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})?", _A)
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}", _A)
_URL_CHARS = re.compile(r"[\x21-\x7e\u00a0-\U0010ffff]*")
_SCHEMES = frozenset({"http", "https", "ftp", "ftps", "ws", "wss"})
_DOMAIN_CHARS, _EMAIL_CHARS, _LOCAL_CHARS = 253, 254, 64
_IP_CHARS = 64


class _Invalid(Exception):
    """The value does not have the format; the text says why."""


@skill(
    "data_validator",
    "Checks the format of a value: email, url, ipv4, ipv6, uuid, phone, credit_card, date, datetime, hex_color, "
    "semver, json, base64, domain, mac_address.",
)
def data_validator(
    *,
    operation: Annotated[Operation, Meta(description="The format.")],
    value: Annotated[str, Meta(description="The value to check.")],
) -> JsonObject:
    """Return `{"valid", "format", "details"}`; details are what was read, or `{"reason"}`."""
    refuse_longer(value, VALUE_BYTES, "value")
    try:
        details = _CHECKS[operation](value)
    except _Invalid as invalid:
        return {"valid": False, "format": operation, "details": {"reason": str(invalid)}}
    return {"valid": True, "format": operation, "details": details}


def _email(value: str) -> JsonObject:
    """Take the dot-atom form of RFC 5321 section 4.1.2 with a domain of two labels or more; no quoted local part."""
    local, at, domain = value.rpartition("@")
    _need(bool(at), "there is no @")
    _need(len(value) <= _EMAIL_CHARS, f"it is longer than {_EMAIL_CHARS} characters")
    _need(len(local) <= _LOCAL_CHARS, f"the part before @ is longer than {_LOCAL_CHARS} characters")
    _need(all(map(_LOCAL.fullmatch, local.split("."))), "the part before @ is not dot-separated words")
    _domain(domain)
    return {"local": local, "domain": domain.lower()}


def _url(value: str) -> JsonObject:
    from urllib.parse import urlsplit  # noqa: PLC0415  few calls need it

    _need(_URL_CHARS.fullmatch(value) is not None, "it has spaces or control characters")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _Invalid("its host or port cannot be read") from error
    _need(parts.scheme in _SCHEMES, f"its scheme is not one of {', '.join(sorted(_SCHEMES))}")
    _need(bool(host), "it has no host")
    if ":" not in host:
        _labels(host.removesuffix("."))
    return {"scheme": parts.scheme, "host": host, "port": port, "path": parts.path}


def _ip(version: int) -> Callable[[str], JsonObject]:
    def checked(value: str) -> JsonObject:
        from ipaddress import IPv4Address, IPv6Address  # noqa: PLC0415  few calls need it

        _need(len(value) <= _IP_CHARS, f"it is longer than {_IP_CHARS} characters")
        try:
            found = (IPv4Address if version == 4 else IPv6Address)(value)  # noqa: PLR2004  the version's name
        except ValueError as error:
            raise _Invalid(f"it is not an IPv{version} address") from error
        return {"normalized": str(found), "private": found.is_private, "loopback": found.is_loopback}

    return checked


def _uuid(value: str) -> JsonObject:
    found = _UUID.fullmatch(value)
    if found is None:
        raise _Invalid("it is not 32 hexadecimal digits in groups of 8-4-4-4-12")
    return {"version": int(found[1], 16)}


def _phone(value: str) -> JsonObject:
    """Take 7 to 15 digits (E.164) with spaces, hyphens, dots and brackets between, and + or 00 before."""
    digits = value.translate(_PHONE_SIGNS)
    international = digits.startswith(("+", "00"))
    digits = digits.removeprefix("+") if digits.startswith("+") else digits.removeprefix("00")
    _need(digits.isascii() and digits.isdigit(), "it has characters that no phone number has")
    _need(7 <= len(digits) <= 15, "it does not have 7 to 15 digits")  # noqa: PLR2004  E.164 section 6.2
    return {"digits": digits, "international": international}


def _credit_card(value: str) -> JsonObject:
    """Take 12 to 19 digits whose Luhn sum (ISO/IEC 7812-1 annex B) is right; the number is not repeated."""
    digits = value.replace(" ", "").replace("-", "")
    _need(digits.isascii() and digits.isdigit(), "it has characters other than digits")
    _need(12 <= len(digits) <= 19, "it does not have 12 to 19 digits")  # noqa: PLR2004  ISO/IEC 7812-1
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    total = sum(map(int, digits[-1::-2])) + sum(number - 9 if number > 9 else number for number in doubled)  # noqa: PLR2004  the digit sum
    _need(total % 10 == 0, "its check digit is wrong")
    return {"network": next((name for name, starts in _NETWORKS.items() if digits.startswith(starts)), "unknown")}


def _date(value: str) -> JsonObject:
    _need(_DATE.fullmatch(value) is not None, "it is not written YYYY-MM-DD")
    try:
        found = date.fromisoformat(value)
    except ValueError as error:
        raise _Invalid("there is no such day") from error
    return {"year": found.year, "month": found.month, "day": found.day}


def _datetime(value: str) -> JsonObject:
    _need(_DATETIME.fullmatch(value) is not None, "it is not written YYYY-MM-DDThh:mm:ss (RFC 3339)")
    try:
        found = datetime.fromisoformat(value.upper())
    except ValueError as error:
        raise _Invalid("there is no such time") from error
    return {"has_offset": found.tzinfo is not None}


def _color(value: str) -> JsonObject:
    _need(_COLOR.fullmatch(value) is not None, "it is not # and 3, 4, 6 or 8 hexadecimal digits")
    digits = value[1:] if len(value) > len("#rgba") else "".join(digit * 2 for digit in value[1:])
    names = ("red", "green", "blue", "alpha")
    return {name: int(digits[at * 2 : at * 2 + 2], 16) for at, name in enumerate(names) if digits[at * 2 :]}


def _semver(value: str) -> JsonObject:
    """Take MAJOR.MINOR.PATCH[-pre.release][+build] (semver.org 2.0.0, items 2, 9 and 10)."""
    rest, plus, build = value.partition("+")
    core, hyphen, pre = rest.partition("-")
    numbers = core.split(".")
    _need(len(numbers) == 3 and all(map(_NUMBER.fullmatch, numbers)), "it does not start MAJOR.MINOR.PATCH")  # noqa: PLR2004  three numbers
    _need(not plus or all(map(_IDENTIFIER.fullmatch, build.split("."))), "its build metadata is not well-formed")
    _need(not hyphen or all(map(_pre_release, pre.split("."))), "its pre-release is not well-formed")
    major, minor, patch = numbers
    return {"major": major, "minor": minor, "patch": patch, "pre_release": pre or None, "build": build or None}


def _json(value: str) -> JsonObject:
    try:
        found = decode_value(value.encode("utf-8", "replace"))
    except GatewayError as error:
        raise _Invalid(error.message) from error
    return {"type": kind_of(found)}


def _base64(value: str) -> JsonObject:
    _need(len(value) % 4 == 0 and _BASE64.fullmatch(value) is not None, "it is not base64 with padding")
    return {"decoded_bytes": len(value) // 4 * 3 - value.count("=")}


def _domain(value: str) -> JsonObject:
    labels = _labels(value)
    _need(len(labels) > 1, "a domain has at least two labels")
    _need(not labels[-1].isdigit(), "its last label is a number")
    return {"labels": labels}


def _mac(value: str) -> JsonObject:
    _need(_MAC.fullmatch(value) is not None, "it is not six pairs of hexadecimal digits with : or - between")
    return {"normalized": value.lower().replace("-", ":")}


_CHECKS: Mapping[str, Callable[[str], JsonObject]] = {
    "email": _email,
    "url": _url,
    "ipv4": _ip(4),
    "ipv6": _ip(6),
    "uuid": _uuid,
    "phone": _phone,
    "credit_card": _credit_card,
    "date": _date,
    "datetime": _datetime,
    "hex_color": _color,
    "semver": _semver,
    "json": _json,
    "base64": _base64,
    "domain": _domain,
    "mac_address": _mac,
}

_PHONE_SIGNS = str.maketrans("", "", " -.()")
_NETWORKS: Mapping[str, tuple[str, ...]] = {
    "visa": ("4",),
    "mastercard": (*map(str, range(51, 56)), *map(str, range(2221, 2721))),
    "amex": ("34", "37"),
    "discover": ("6011", "644", "645", "646", "647", "648", "649", "65"),
}


def _labels(value: str) -> list[str]:
    """Return the labels of a host name (RFC 1123 section 2.1), in the ASCII form that DNS has them."""
    _need(len(value) <= _DOMAIN_CHARS, f"a host name has 1 to {_DOMAIN_CHARS} characters")
    try:
        plain = value.encode("idna").decode() if value and not value.isascii() else value
    except UnicodeError as error:
        raise _Invalid("it is not a host name") from error
    _need(0 < len(plain) <= _DOMAIN_CHARS, f"a host name has 1 to {_DOMAIN_CHARS} characters")
    labels = plain.split(".")
    _need(all(map(_LABEL.fullmatch, labels)), "a label is not 1 to 63 letters, digits and inner hyphens")
    return labels


def _pre_release(identifier: str) -> bool:
    """Say whether it is one identifier; "Numeric identifiers MUST NOT include leading zeroes" (item 9)."""
    if identifier.isdigit():
        return _NUMBER.fullmatch(identifier) is not None
    return _IDENTIFIER.fullmatch(identifier) is not None


def _need(holds: bool, reason: str) -> None:
    if not holds:
        raise _Invalid(reason)
