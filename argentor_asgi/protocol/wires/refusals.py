"""What a provider's refusal means, as an answer that is not a 2xx or as an error inside a stream (agent.md 1.5, D13).

Its status and codes decide; its words only where providers have no code for it. What it said is a note on the error,
for the log: `message` is ours, since no upstream text reaches a client. The note is whole, so that whoever writes it
down can take secrets out of it before cutting it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil, isfinite
from typing import Final

from argentor_asgi.errors import (
    ContentFiltered,
    ContextOverflow,
    GatewayError,
    ProviderAuth,
    ProviderBadRequest,
    ProviderRateLimited,
    ProviderUnavailable,
)
from argentor_asgi.protocol.schema import JsonObject, JsonValue, decode_value

RETRY_AFTER_MS: Final = 24 * 3600 * 1000
"""The longest wait that a provider is believed."""

_IN_BAND: Final = {
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "unauthenticated": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found_error": 404,
    "not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "resource_exhausted": 429,
}
"""The HTTP statuses that types of errors inside a stream stand for; others are failures of the provider."""

_OVERFLOW_CODES: Final = {"context_length_exceeded", "exceed_context_size_error"}
_OVERFLOW: Final = re.compile(
    "prompt is too long|context (?:length|window|limit|size)|maximum prompt length|exceeds the maximum number of tokens"
)
_FILTER_CODES: Final = {"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "invalid_prompt"}
_FILTER: Final = re.compile("content filtering policy|content management policy|was flagged|violates usage guidelines")
_QUOTA_CODES: Final = {"insufficient_quota", "billing_error", "billing_hard_limit_reached"}
_QUOTA: Final = re.compile("credit balance is too low|insufficient balance")
_KEY_CODES: Final = {"api_key_invalid", "invalid_api_key"}
_KEY: Final = re.compile("api key not valid|incorrect api key")
_NO_CREDIT: Final = "The account at the model provider has no credit left."
_UNTOLD: Final = 0
_PAYMENT, _TOO_LARGE, _TOO_MANY, _SERVER = 402, 413, 429, 500
_AUTH: Final = {401, 403, _PAYMENT}
_TEMPORARY: Final = {_UNTOLD, 408, 409, 425}
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SECONDS: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class _Report:
    """What the provider says is wrong. `status`: HTTP's, 0 where none is told; `codes`: lower-case words of its own."""

    status: int
    codes: frozenset[str]
    message: str
    wait_ms: int | None = None

    def says(self, codes: set[str], words: re.Pattern[str]) -> bool:
        """Whether it has one of these codes or, as a refusal of what was asked, these words."""
        is_refusal = self.status < _SERVER and self.status != _TOO_MANY
        return bool(self.codes & codes) or (is_refusal and words.search(self.message.lower()) is not None)


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """Return the declared error of an answer that is not a 2xx; never raises. `headers` by lower-case names.

    `retry_after` in whole seconds, `wait_ms` as it was told: by its headers, or as Gemini says it in the body; a date
    counts from the answer's own `date`.
    """
    error = _error_of(_value(body))
    wait_ms = retry_after_ms(headers, _date(headers.get("date", "")))
    return _declared(_Report(status, _codes(error), _message(error), _delay_ms(error) if wait_ms is None else wait_ms))


def in_band(value: JsonValue) -> GatewayError:
    """Return the declared error of an error inside a stream: the event's JSON, or its member `error`; never raises."""
    error = _error_of(value)
    codes = _codes(error)
    told = [int(code) for code in codes if re.fullmatch("[45][0-9][0-9]", code)]
    meant = [_IN_BAND[code] for code in sorted(codes) if code in _IN_BAND]
    return _declared(_Report([*told, *meant, _UNTOLD][0], codes, _message(error), _delay_ms(error)))


def retry_after_ms(headers: Mapping[str, str], now: datetime | None) -> int | None:
    """Return the wait in ms that `retry-after-ms` or `retry-after` (seconds or a date) asks for, 0 to a day, or None.

    `headers` by lower-case names. `now`: aware; a date is not understood without it. Source: RFC 9110 section 10.2.3.
    """
    if (found := _number(headers.get("retry-after-ms", ""))) is not None:
        return _bounded(found)
    value = headers.get("retry-after", "")
    if (found := _number(value)) is not None:
        return _bounded(found * 1000)
    date = _date(value)
    return None if date is None or now is None else _bounded((date - now).total_seconds() * 1000)


def _declared(report: _Report) -> GatewayError:
    error = _error(report)
    said = " ".join([*sorted(report.codes), "" if isinstance(error, ProviderAuth) else report.message])
    # A provider repeats a part of a wrong key, so those words are left out.
    error.add_note(f"The provider said {report.status or 'in its stream'}: {_UNPRINTABLE.sub(' ', said)}")
    return error


def _error(report: _Report) -> GatewayError:
    """Return the error by what is wrong, before the status: providers have one status for many refusals."""
    if report.says(_OVERFLOW_CODES, _OVERFLOW):
        return ContextOverflow()
    if report.says(_FILTER_CODES, _FILTER):
        return ContentFiltered()
    if report.status == _PAYMENT or report.says(_QUOTA_CODES, _QUOTA):
        return ProviderAuth(_NO_CREDIT)
    if report.says(_KEY_CODES, _KEY):
        return ProviderAuth()
    return _by_status(report)


def _by_status(report: _Report) -> GatewayError:
    status = report.status
    if status in _AUTH:
        return ProviderAuth()
    if status == _TOO_MANY:
        return _passing(ProviderRateLimited, report.wait_ms)
    if status in _TEMPORARY or status >= _SERVER:
        return _passing(ProviderUnavailable, report.wait_ms)
    # The whole request is too large: what helps is what helps against a full context, a shorter history.
    return ContextOverflow() if status == _TOO_LARGE else ProviderBadRequest()


def _passing(kind: type[GatewayError], wait_ms: int | None) -> GatewayError:
    error = kind(retry_after=None if wait_ms is None else max(1, ceil(wait_ms / 1000)))
    error.wait_ms = wait_ms
    return error


# --- the shapes of errors ----------------------------------------------------------------------------------------


def _value(body: bytes) -> JsonValue:
    try:
        return decode_value(body)
    except GatewayError:
        return None


def _error_of(value: JsonValue) -> JsonObject:
    """Return the object that says what is wrong, out of the shapes that servers wrap it in; empty for none."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict) and value.get("error"):
        value = value["error"]
    if isinstance(value, str):
        return {"message": value}
    return value if isinstance(value, dict) else {}


def _codes(error: JsonObject) -> frozenset[str]:
    found = [error.get(name) for name in ("type", "code", "status")]
    inner = error.get("innererror")
    found += [each.get("reason") for each in _details(error)]
    found += [inner.get("code")] if isinstance(inner, dict) else []
    return frozenset(str(code).lower() for code in found if isinstance(code, str | int) and code)


def _message(error: JsonObject) -> str:
    found = [error.get(name) for name in ("message", "detail")]
    return next((text for text in found if isinstance(text, str)), "")


def _details(error: JsonObject) -> list[JsonObject]:
    found = error.get("details")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _delay_ms(error: JsonObject) -> int | None:
    """Return Gemini's `retryDelay`, such as `34.5s`, in ms."""
    told = [str(each.get("retryDelay", "")) for each in _details(error)]
    found = [_number(delay.removesuffix("s")) for delay in told if delay]
    return next((_bounded(seconds * 1000) for seconds in found if seconds is not None), None)


def _number(text: str) -> float | None:
    """Return a number that is not negative, None for anything else."""
    found = float(text) if _SECONDS.fullmatch(text.strip()) else None
    return found if found is not None and isfinite(found) else None


def _bounded(wait_ms: float) -> int:
    return ceil(min(max(wait_ms, 0), RETRY_AFTER_MS))


def _date(text: str) -> datetime | None:
    if not text:
        return None
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  heavy, and most answers ask for no wait

    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return found if found.tzinfo is not None else None
