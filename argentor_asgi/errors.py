"""Every refusal of the gateway, declared once: its status, its stable code and its words (design 6.3, RFC 9457).

    GatewayError
    +-- bad input       InvalidPath MalformedJson EmptyInput InvalidInput ContentRejected NotJson BodyTooLarge ...
    +-- who may         Unauthenticated Forbidden
    +-- not there       RouteNotFound MethodNotAllowed SessionNotFound RunNotFound ...
    +-- not now         SessionBusy ApprovalDecided Overloaded Draining RequestTimeout
    +-- a run's failure InputBlocked BudgetExceeded MaxTurns RunTimeout ProviderUnavailable StreamTruncated ...
    +-- ours            Internal

A class docstring is the OpenAPI description. `code` is public and never changes; `error` is the text that clients of
the original gateway look for, else the code.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Detail:
    """One bad field: an RFC 6901 JSON Pointer into the input, and what is wrong there."""

    pointer: str
    message: str


class GatewayError(Exception):
    """A refusal or failure that a caller is told about.

    `message` is safe to send: no internal text, URL or upstream body. `retry_after`: whole seconds, >= 1, or None;
    `wait_ms`: the same in ms, for the gateway itself, which may know it more exactly.
    `headers`: extra response headers, lower-case names. `members`: extra members of the problem (RFC 9457 section 3.2).
    `retryable`: whether the same call may succeed later.
    """

    status: int = 500
    code: str = "internal"
    error: str | None = None
    message: str = "The gateway failed; the request id finds the reason in its log."
    retryable: bool = False

    def __init__(
        self,
        message: str | None = None,
        *,
        details: Sequence[Detail] = (),
        retry_after: int | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
        members: Mapping[str, object] | None = None,
    ) -> None:
        """Keep the words; everything else stands on the class."""
        super().__init__(message or type(self).message)
        self.message = message or type(self).message
        self.details = tuple(details)
        self.retry_after = retry_after
        self.wait_ms = None if retry_after is None else retry_after * 1000
        self.headers = tuple(headers)
        self.members = dict(members or {})


# --- bad input ---------------------------------------------------------------------------------------------------


class BadRequest(GatewayError):
    """The request is not one that HTTP or this gateway understands."""

    status, code, message = 400, "bad_request", "The request cannot be understood."


class InvalidPath(GatewayError):
    """A part of the path is not of the form that the route takes, such as an id that is no UUID."""

    status, code, message = 400, "invalid_path", "A part of the path does not have the expected form."


class MalformedJson(GatewayError):
    """The body is not JSON (RFC 8259): syntax, encoding, depth, or a number out of range."""

    status, code, message = 400, "malformed_json", "The body is not valid JSON."


class EmptyInput(GatewayError):
    """The message is blank."""

    status, code, error, message = 400, "empty_input", "Input must not be empty", "Input must not be empty"


class InvalidInput(GatewayError):
    """A field is missing, has the wrong type, or is out of range; `details` says which."""

    status, code, message = 422, "invalid_input", "The input does not have the expected shape."


class ContentRejected(GatewayError):
    """The message is too long or holds nothing but control characters."""

    status, code, error = 422, "content_rejected", "Message rejected: invalid content"
    message = "Message rejected: invalid content"


class BodyTooLarge(GatewayError):
    """The body, or the message in it, is larger than the gateway takes."""

    status, code, message = 413, "body_too_large", "The body is too large."


class TargetTooLong(GatewayError):
    """The path and query are longer than the gateway takes."""

    status, code, message = 414, "target_too_long", "The request target is too long."


class HeadersTooLarge(GatewayError):
    """The header has more fields or bytes than the gateway takes (RFC 6585 section 5)."""

    status, code, message = 431, "headers_too_large", "The request's header is too large."


class BodyTimeout(GatewayError):
    """The body did not come in time, or came too slowly (RFC 9110 section 15.5.9)."""

    status, code, retryable, message = 408, "body_timeout", True, "The body did not come in time."


class HttpVersionRefused(GatewayError):
    """This version of HTTP is not served, or not this way: a proxy that tunnels HTTP/2 without TLS sees no request."""

    status, code, message = 505, "http_version_refused", "HTTP/2 is not served without TLS."


class UnsupportedMediaType(GatewayError):
    """The body is not declared as JSON."""

    status, code = 415, "unsupported_media_type"
    message = "Send the body as application/json."


class IdempotencyKeyReused(GatewayError):
    """This Idempotency-Key was used with another body."""

    status, code = 422, "idempotency_key_reused"
    message = "This Idempotency-Key was already used with another request body."


# --- who may -----------------------------------------------------------------------------------------------------


class Unauthenticated(GatewayError):
    """No valid credential came with the request."""

    status, code, message = 401, "unauthenticated", "An API key is required."


class Forbidden(GatewayError):
    """The caller may not do this, or not from there."""

    status, code, message = 403, "forbidden", "You may not do this."


class TooManyFailures(GatewayError):
    """Too many wrong credentials came from this address; none is looked at for a while."""

    status, code, retryable = 429, "too_many_failures", True
    message = "Too many wrong credentials came from your address; wait and try again."


# --- not there ---------------------------------------------------------------------------------------------------


class RouteNotFound(GatewayError):
    """No route has this path."""

    status, code, message = 404, "not_found", "No route has this path."


class MethodNotAllowed(GatewayError):
    """The path exists, but not for this method; `Allow` lists those it has."""

    status, code, message = 405, "method_not_allowed", "The path does not take this method."


class SessionNotFound(GatewayError):
    """No session has this id, or none that the caller may see."""

    status, code, message = 404, "session_not_found", "No session has this id."


class RunNotFound(GatewayError):
    """No run has this id, or none that the caller may see."""

    status, code, message = 404, "run_not_found", "No run has this id."


class KeyNotFound(GatewayError):
    """No stored API key has this id, or none that the caller may see."""

    status, code, message = 404, "key_not_found", "No API key has this id."


class SkillNotFound(GatewayError):
    """No skill has this name."""

    status, code, message = 404, "skill_not_found", "No skill has this name."


class ApprovalNotFound(GatewayError):
    """No approval has this id, or none that the caller may see."""

    status, code, message = 404, "approval_not_found", "No approval has this id."


class ReplayExpired(GatewayError):
    """The events asked for are no longer kept; the run's status and text are still known."""

    status, code, message = 410, "replay_expired", "The events of this run are no longer kept."


# --- not now -----------------------------------------------------------------------------------------------------


class SessionBusy(GatewayError):
    """The session already works on a message."""

    status, code, retryable = 409, "session_busy", True
    message = "The session is working on another message."


class ApprovalDecided(GatewayError):
    """The approval was already decided, or its time is over; the member `approval_status` says how."""

    status, code, message = 409, "approval_decided", "The approval has already been decided."


class StaleSession(GatewayError):
    """The session changed since the caller read it."""

    status, code, retryable = 409, "stale_session", True
    message = "The session changed meanwhile."


class RateLimited(GatewayError):
    """The caller, or the gateway as a whole, has used up a limit; `Retry-After` says when there is room again."""

    status, code, retryable = 429, "rate_limit_exceeded", True
    message = "The rate limit is exceeded."


class Overloaded(GatewayError):
    """The gateway is at one of its limits."""

    status, code, retryable = 503, "overloaded", True
    message = "The gateway is at its limit; try again shortly."


class Draining(GatewayError):
    """The gateway is stopping and takes no new work."""

    status, code, retryable = 503, "draining", True
    message = "The gateway is shutting down."


class StorageUnavailable(GatewayError):
    """The store cannot be read or written."""

    status, code, retryable = 503, "storage_unavailable", True
    message = "The session store is not available."


class RequestTimeout(GatewayError):
    """The answer did not come within the request's deadline."""

    status, code, retryable = 504, "request_timeout", True
    message = "The request took too long."


# --- a run's failure (agent.md 2.1) ------------------------------------------------------------------------------


class InputBlocked(GatewayError):
    """A guardrail refused the message."""

    status, code, message = 422, "input_blocked", "A guardrail refused the message."


class OutputBlocked(GatewayError):
    """A guardrail stopped the answer."""

    status, code, message = 422, "output_blocked", "A guardrail stopped the answer."


class BudgetExceeded(GatewayError):
    """The run, or its principal's day, used up a budget; the message names it."""

    status, code, message = 429, "budget_exceeded", "The budget is used up."


class RunCancelled(GatewayError):
    """The run was cancelled before it ended."""

    status, code, message = 409, "cancelled", "The run was cancelled."


class RunInterrupted(GatewayError):
    """The gateway stopped while the run was going on."""

    status, code, retryable, message = 503, "interrupted", True, "The gateway stopped during this run."


class RunLaidAside(GatewayError):
    """The gateway stops while the run, or one before it, waits for a person; it goes on after the next start."""

    status, code = 503, "laid_aside"
    message = "The gateway is stopping; the run goes on after its next start. Resume it, and do not ask again."


class RunTimeout(GatewayError):
    """The run did not end within its time."""

    status, code, message = 504, "timeout", "The run took too long."


class MaxTurns(GatewayError):
    """The agent used all its turns without an answer."""

    status, code, message = 500, "max_turns", "The agent used all its turns without an answer."


class ToolFailed(GatewayError):
    """The same skill call failed three times in a row."""

    status, code, message = 500, "tool_failed", "The same skill call failed again and again."


class ContentFiltered(GatewayError):
    """The model refused or its answer was filtered."""

    status, code, message = 422, "content_filtered", "The model declined to answer."


class ContextOverflow(GatewayError):
    """The conversation no longer fits the model."""

    status, code, message = 422, "context_overflow", "The conversation is too long for the model."


class ProviderUnavailable(GatewayError):
    """The model provider cannot be reached or failed."""

    status, code, retryable = 502, "provider_unavailable", True
    message = "The model provider is not available."


class ProviderRateLimited(GatewayError):
    """The model provider takes no more for now."""

    status, code, retryable = 503, "provider_rate_limited", True
    message = "The model provider is at its limit."


class ProviderAuth(GatewayError):
    """The model provider refuses the gateway's key."""

    status, code, message = 502, "provider_auth", "The model provider refuses the gateway's key."


class ProviderBadRequest(GatewayError):
    """The model provider refuses the request, or its answer cannot be understood."""

    status, code, message = 502, "provider_bad_request", "The model provider refuses the request."


class StreamTruncated(GatewayError):
    """The model's stream ended without its terminal frame."""

    status, code, retryable = 502, "stream_truncated", True
    message = "The model's answer was cut off."


class Internal(GatewayError):
    """A bug in the gateway; its log has the traceback under the request id."""


def every_error() -> Iterator[type[GatewayError]]:
    """Yield each declared error class, in order of declaration."""
    waiting = list(GatewayError.__subclasses__())
    while waiting:
        found = waiting.pop(0)
        yield found
        waiting[:0] = found.__subclasses__()


def by_code(code: str) -> type[GatewayError]:
    """Return the error class with this stable code; `Internal` for one that this version does not know."""
    return next((found for found in every_error() if found.code == code), Internal)


class ConfigError(Exception):
    """The gateway cannot start as configured; the text names the setting and the way out. Never sent to a client."""
