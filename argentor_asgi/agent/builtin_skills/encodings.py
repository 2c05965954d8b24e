"""The skills `hash` and `encode_decode`: texts in, as UTF-8, and text out."""

import hashlib
import hmac
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from typing import Annotated, Literal
from zlib import crc32

from argentor_asgi.agent.builtin_skills.operations import Operations, perform, present, refuse_longer
from argentor_asgi.agent.skills import SkillRefused, skill
from argentor_asgi.errors import GatewayError
from argentor_asgi.protocol.schema import JsonObject, JsonValue, Meta, decode_value

INPUT_BYTES = 1024 * 1024
"""The longest text that is hashed, encoded or decoded, in UTF-8."""

_SHOWN_BYTES = 32

HashOperation = Literal["sha256", "sha512", "hmac_sha256", "checksum", "verify"]
Algorithm = Literal["sha256", "sha512", "hmac_sha256", "crc32"]
CodeOperation = Literal[
    "base64_encode", "base64_decode", "base64url_encode", "base64url_decode", "hex_encode", "hex_decode", "url_encode",
    "url_decode", "html_encode", "html_decode", "jwt_decode",
]  # fmt: skip


@skill("hash", "Hashes text: SHA-256, SHA-512, HMAC-SHA256 with a key, a CRC-32 checksum; verifies a given hash.")
def hash_skill(
    *,
    operation: Annotated[HashOperation, Meta(description="What to do; checksum and verify take an algorithm.")],
    input: Annotated[str, Meta(description="The text, hashed as UTF-8.")],  # noqa: A002  the argument's name on the wire
    key: Annotated[str | None, Meta(description="The key of HMAC.")] = None,
    hash: Annotated[str | None, Meta(description="The hash that verify compares with, in hexadecimal.")] = None,  # noqa: A002  the argument's name on the wire
    algorithm: Annotated[Algorithm | None, Meta(description="Of checksum [crc32] and verify [sha256].")] = None,
) -> JsonObject:
    """Return `{"hash", "algorithm"}` in lower-case hexadecimal, or `{"valid", "algorithm"}` of verify."""
    refuse_longer(input, INPUT_BYTES, "input")
    data = input.encode("utf-8", "replace")
    if operation == "verify":
        return _verified(data, key, hash, algorithm or "sha256")
    name = operation if operation != "checksum" else algorithm or "crc32"
    return {"hash": _hashed(data, key, name), "algorithm": name}


@skill(
    "encode_decode",
    "Encodes and decodes text: base64, base64url, hex, URL percent, HTML entities; shows what is in a JWT, unverified.",
)
def encode_decode(
    *,
    operation: Annotated[CodeOperation, Meta(description="What to do.")],
    input: Annotated[str, Meta(description="The text to encode or decode.")],  # noqa: A002  the argument's name on the wire
) -> JsonObject:
    """Return `{"result", "encoding"}`; a JWT's header and payload with `"verified": false`: no signature is checked."""
    refuse_longer(input, INPUT_BYTES, "input")
    result = perform(_OPERATIONS, operation, present(input=input))
    found = {"result": result, "encoding": operation.rpartition("_")[0]}
    return {**found, "verified": False} if operation == "jwt_decode" else found


def _verified(data: bytes, key: str | None, claimed: str | None, algorithm: str) -> JsonObject:
    if claimed is None:
        raise SkillRefused("The operation verify also needs: hash.")
    given = claimed.strip().lower().encode("utf-8", "replace")
    return {"valid": hmac.compare_digest(_hashed(data, key, algorithm).encode(), given), "algorithm": algorithm}


def _hashed(data: bytes, key: str | None, algorithm: str) -> str:
    if algorithm == "crc32":
        return f"{crc32(data):08x}"
    if algorithm != "hmac_sha256":
        return hashlib.new(algorithm, data).hexdigest()
    if key is None:
        raise SkillRefused("The operation hmac_sha256 also needs: key.")
    return hmac.new(key.encode("utf-8", "replace"), data, "sha256").hexdigest()


def _base64_encode(input: str) -> str:  # noqa: A002  the argument's name on the wire
    return b64encode(_bytes(input)).decode()


def _base64_decode(input: str) -> str:  # noqa: A002  as above
    try:
        return _text(b64decode("".join(input.split()), validate=True))
    except (NotBase64, ValueError):
        raise SkillRefused("The input is not base64.") from None


def _base64url_encode(input: str) -> str:  # noqa: A002  as above
    """Return base64url without padding, as JWTs have it (RFC 7515 section 2)."""
    return urlsafe_b64encode(_bytes(input)).decode().rstrip("=")


def _base64url_decode(input: str) -> str:  # noqa: A002  as above
    return _text(_from_base64url(input))


def _hex_encode(input: str) -> str:  # noqa: A002  as above
    return _bytes(input).hex()


def _hex_decode(input: str) -> str:  # noqa: A002  as above
    try:
        return _text(bytes.fromhex(input))
    except ValueError:
        raise SkillRefused("The input is not hexadecimal.") from None


def _url_encode(input: str) -> str:  # noqa: A002  as above
    from urllib.parse import quote  # noqa: PLC0415  few calls need it

    return quote(_bytes(input), safe="")


def _url_decode(input: str) -> str:  # noqa: A002  as above
    from urllib.parse import unquote_to_bytes  # noqa: PLC0415  few calls need it

    return _text(unquote_to_bytes(_bytes(input)))


def _html_encode(input: str) -> str:  # noqa: A002  as above
    from html import escape  # noqa: PLC0415  few calls need it

    return escape(input)


def _html_decode(input: str) -> str:  # noqa: A002  as above
    from html import unescape  # noqa: PLC0415  few calls need it

    try:
        return unescape(input)
    except ValueError:
        raise SkillRefused("The input has a character reference with thousands of digits.") from None


def _jwt_decode(input: str) -> JsonObject:  # noqa: A002  as above
    parts = input.strip().split(".")
    if len(parts) != 3:  # noqa: PLR2004  header, payload, signature (RFC 7515 section 3.1)
        raise SkillRefused("The input is not a JWT: it does not have three parts.")
    return {"header": _claims(parts[0]), "payload": _claims(parts[1])}


_OPERATIONS: Operations = {
    "base64_encode": _base64_encode,
    "base64_decode": _base64_decode,
    "base64url_encode": _base64url_encode,
    "base64url_decode": _base64url_decode,
    "hex_encode": _hex_encode,
    "hex_decode": _hex_decode,
    "url_encode": _url_encode,
    "url_decode": _url_decode,
    "html_encode": _html_encode,
    "html_decode": _html_decode,
    "jwt_decode": _jwt_decode,
}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        shown = data[:_SHOWN_BYTES].hex()
        raise SkillRefused(
            f"It decodes to {len(data)} bytes that are not UTF-8 text: {shown} in hexadecimal."
        ) from None


def _from_base64url(text: str) -> bytes:
    plain = "".join(text.split()).rstrip("=")
    if not plain.replace("-", "").replace("_", "").isalnum() and plain:
        raise SkillRefused("The input is not base64url.")
    try:
        return urlsafe_b64decode(plain + "=" * (-len(plain) % 4))
    except (NotBase64, ValueError):
        raise SkillRefused("The input is not base64url.") from None


def _claims(part: str) -> JsonValue:
    try:
        return decode_value(_from_base64url(part))
    except GatewayError:
        raise SkillRefused("The input is not a JWT: a part is not JSON.") from None
