"""What providers' refusals mean, in the shapes in which they send them."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import (
    ContentFiltered,
    ContextOverflow,
    GatewayError,
    ProviderAuth,
    ProviderBadRequest,
    ProviderRateLimited,
    ProviderUnavailable,
)
from argentor_asgi.protocol.wires import WIRES
from argentor_asgi.protocol.wires.refusals import RETRY_AFTER_MS, in_band, refusal, retry_after_ms

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "type", "code", "status", "details", "retryDelay", "innererror", "detail"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def refused(status, body=None, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return refusal(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


@pytest.mark.parametrize(
    ("status", "meant"),
    [
        *((status, ProviderBadRequest) for status in (301, 400, 404, 405, 422)),
        *((status, ProviderAuth) for status in (401, 402, 403)),
        *((status, ProviderUnavailable) for status in (408, 409, 500, 502, 503, 504, 529)),
        (429, ProviderRateLimited),
        (413, ContextOverflow),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad gateway</html>", b'{"error":{"message":"x"}}', b'{"error":null}', b"[]"]
)
def test_the_status_decides_where_nothing_else_is_told(status, meant, body):
    assert type(refused(status, body)) is meant


@pytest.mark.parametrize(
    ("status", "error", "meant"),
    [
        (400, {"code": "context_length_exceeded", "message": "x"}, ContextOverflow),
        (400, {"message": "This model's maximum context length is 8192 tokens."}, ContextOverflow),
        (
            400,
            {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"},
            ContextOverflow,
        ),
        (
            400,
            {"message": "The input token count (9) exceeds the maximum number of tokens allowed (8)."},
            ContextOverflow,
        ),
        (
            400,
            {"message": "the request exceeds the available context size", "type": "exceed_context_size_error"},
            ContextOverflow,
        ),
        (400, {"message": "Your input exceeds the context window of this model."}, ContextOverflow),
        (400, {"message": "This model's maximum prompt length is 131072 but"}, ContextOverflow),
        (500, {"message": "context length bookkeeping crashed"}, ProviderUnavailable),
        (429, {"code": "insufficient_quota"}, ProviderAuth),
        (429, {"message": "Too many tokens in the context window of this minute."}, ProviderRateLimited),
        (402, {"message": "Insufficient Balance"}, ProviderAuth),
        (400, {"message": "Your credit balance is too low to access the Anthropic API."}, ProviderAuth),
        (400, {"status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}, ProviderAuth),
        (400, {"message": "Incorrect API key provided: sk-abc."}, ProviderAuth),
        (400, {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}, ContentFiltered),
        (400, {"innererror": {"code": "ResponsibleAIPolicyViolation"}}, ContentFiltered),
        (400, {"message": "Output blocked by content filtering policy"}, ContentFiltered),
        (403, {"message": "Your input was flagged"}, ContentFiltered),
    ],
)
def test_a_code_or_known_words_decide_before_the_status(status, error, meant):
    for body in ({"error": error}, {"type": "error", "error": error}, [{"error": error}], error):
        assert type(refused(status, body)) is meant


def test_every_wire_understands_them():
    for wire in WIRES.values():
        assert type(wire.refusal(401, {}, b"")) is ProviderAuth


def test_the_account_without_credit_is_told_from_the_wrong_key():
    assert "credit" in refused(429, {"error": {"code": "insufficient_quota"}}).message


@pytest.mark.parametrize(
    ("headers", "retry_after"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after": "0.2"}, 1),
        ({"retry_after": "1.5"}, 2),
        ({"retry_after_ms": "2500", "retry_after": "9"}, 3),
        ({"retry_after": "Mon, 23 Nov 2026 12:00:30 GMT", "date": "Mon, 23 Nov 2026 12:00:10 GMT"}, 20),
        ({"retry_after": "Mon, 23 Nov 2026 12:00:30 GMT"}, None),
        ({"retry_after": "999999999"}, RETRY_AFTER_MS // 1000),
        ({"retry_after": "soon"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503, 529])
def test_the_wait_is_told_in_whole_seconds(status, headers, retry_after):
    assert refused(status, {}, **headers).retry_after == retry_after


def test_geminis_wait_stands_in_the_body_and_yields_to_a_header():
    body = {"error": {"code": 429, "details": [{"@type": "x"}, {"@type": "RetryInfo", "retryDelay": "34.07s"}]}}
    assert refused(429, body).retry_after == 35
    assert refused(429, body, retry_after="2").retry_after == 2
    assert in_band(body).retry_after == 35


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({"retry-after-ms": "12.5"}, 13),
        ({"retry-after-ms": "never", "retry-after": "2"}, 2000),
        ({"retry-after": " 1.25 "}, 1250),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:10 GMT"}, 10_000),
        ({"retry-after": "Mon, 23 Nov 2026 11:59:00 GMT"}, 0),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:10 -0000"}, None),
        ({"retry-after": "Mon, 99 Nov 2026 12:00:10 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "9" * 5000}, None),
    ],
)
def test_the_wait_is_read_in_every_form(headers, wait_ms):
    assert retry_after_ms(headers, NOW) == wait_ms


@given(st.integers(0, 10**6))
def test_a_date_means_the_seconds_until_then(seconds):
    told = {"retry-after": format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)}
    assert retry_after_ms(told, NOW) == min(seconds * 1000, RETRY_AFTER_MS)


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms"]), st.text()))
def test_any_header_is_a_wait_in_bounds_or_none(headers):
    wait_ms = retry_after_ms(headers, NOW)
    assert wait_ms is None or 0 <= wait_ms <= RETRY_AFTER_MS


@given(JSON, st.integers(100, 599))
def test_any_body_and_any_error_of_a_stream_is_a_declared_error(value, status):
    for error in (in_band(value), refused(status, value)):
        assert isinstance(error, GatewayError)
        assert error.retry_after is None or error.retry_after >= 1


@given(st.binary(max_size=30))
def test_any_bytes_are_a_declared_error(body):
    assert type(refused(400, body)) is ProviderBadRequest


def test_what_the_provider_said_is_a_note_for_the_log_and_not_the_message():
    error = refused(400, {"error": {"type": "invalid_request_error", "message": "bad\n\x1b[31m tool " + "x" * 999}})
    assert "tool" not in error.message
    (note,) = error.__notes__
    assert note.startswith("The provider said 400: invalid_request_error bad [31m tool")
    assert note.isprintable()


def test_a_note_is_whole_so_that_a_secret_in_it_can_be_found_before_it_is_cut():
    (note,) = refused(400, {"error": {"message": "x" * 1000 + "sk-at-the-end"}}).__notes__
    assert note.endswith("sk-at-the-end")


def test_the_note_of_a_refused_key_has_no_words_since_they_repeat_the_key():
    error = refused(401, {"error": {"message": "Incorrect API key provided: sk-abc.", "code": "invalid_api_key"}})
    assert error.__notes__ == ["The provider said 401: invalid_api_key "]


def test_a_wait_in_ms_is_kept_as_it_was_told_and_rounded_up_for_clients():
    found = refusal(429, {"retry-after-ms": "20"}, b"")
    assert (found.wait_ms, found.retry_after) == (20, 1)
