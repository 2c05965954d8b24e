import base64
import hashlib
import hmac
import html
import zlib
from typing import get_args
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skillcalls import answer, refusal

from argentor_asgi.agent.builtin_skills.encodings import (
    _OPERATIONS,
    INPUT_BYTES,
    CodeOperation,
    encode_decode,
    hash_skill,
)

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"


def did(operation: str, text: str) -> str:
    return _OPERATIONS[operation](text)


def test_the_operations_offered_are_the_operations_there_are() -> None:
    assert set(get_args(CodeOperation)) == set(_OPERATIONS)


async def test_hashes_are_those_of_the_library() -> None:
    hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert await answer(hash_skill, operation="sha256", input="hello") == {"hash": hello, "algorithm": "sha256"}
    long = hashlib.sha512(b"hello").hexdigest()
    assert await answer(hash_skill, operation="sha512", input="hello") == {"hash": long, "algorithm": "sha512"}
    keyed = hmac.new(b"k", b"hello", "sha256").hexdigest()
    got = await answer(hash_skill, operation="hmac_sha256", input="hello", key="k")
    assert got == {"hash": keyed, "algorithm": "hmac_sha256"}
    got = await answer(hash_skill, operation="checksum", input="hello")
    assert got == {"hash": f"{zlib.crc32(b'hello'):08x}", "algorithm": "crc32"}
    got = await answer(hash_skill, operation="checksum", input="hello", algorithm="sha256")
    assert got["hash"] == hello


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "hmac_sha256", "crc32"])
async def test_a_hash_is_verified_in_any_case_and_a_changed_one_is_not(algorithm: str) -> None:
    made = await answer(hash_skill, operation="checksum", input="x", key="k", algorithm=algorithm)
    asked = {"operation": "verify", "input": "x", "key": "k", "algorithm": algorithm}
    assert await answer(hash_skill, **asked, hash=made["hash"].upper()) == {"valid": True, "algorithm": algorithm}
    assert await answer(hash_skill, **asked, hash=made["hash"][:-1] + "g") == {"valid": False, "algorithm": algorithm}
    assert await answer(hash_skill, **asked, hash="ñ") == {"valid": False, "algorithm": algorithm}


async def test_hashing_refuses_what_is_missing_or_too_long() -> None:
    assert "also needs: key" in await refusal(hash_skill, operation="hmac_sha256", input="x")
    assert "also needs: hash" in await refusal(hash_skill, operation="verify", input="x")
    assert "/input" in await refusal(hash_skill, operation="sha256")
    assert (await answer(hash_skill, operation="sha256", input="x" * INPUT_BYTES))["hash"]
    assert "too long" in await refusal(hash_skill, operation="sha256", input="x" * (INPUT_BYTES + 1))


@pytest.mark.parametrize(
    ("operation", "text", "result"),
    [
        ("base64_encode", "hi?>", "aGk/Pg=="),
        ("base64_decode", "aGk/\nPg==", "hi?>"),
        ("base64url_encode", "hi?>", "aGk_Pg"),
        ("base64url_decode", "aGk_Pg", "hi?>"),
        ("hex_encode", "hé", "68c3a9"),
        ("hex_decode", "68 C3A9", "hé"),
        ("url_encode", "a b/é", "a%20b%2F%C3%A9"),
        ("url_decode", "a%20b%2F%C3%A9", "a b/é"),
        ("html_encode", "<a href='x'>", "&lt;a href=&#x27;x&#x27;&gt;"),
        ("html_decode", "&lt;&eacute;&#x27;", "<é'"),
    ],
)
async def test_every_encoding_goes_both_ways(operation: str, text: str, result: str) -> None:
    got = await answer(encode_decode, operation=operation, input=text)
    assert got == {"result": result, "encoding": operation.rpartition("_")[0]}


async def test_a_jwt_is_shown_and_marked_as_not_verified() -> None:
    assert await answer(encode_decode, operation="jwt_decode", input=JWT) == {
        "result": {"header": {"alg": "HS256"}, "payload": {"sub": "1"}},
        "encoding": "jwt",
        "verified": False,
    }


@pytest.mark.parametrize(
    ("operation", "text", "words"),
    [
        ("base64_decode", "a", "not base64"),
        ("base64_decode", "a$==", "not base64"),
        ("base64_decode", "é", "not base64"),
        ("base64_decode", "/w==", "not UTF-8 text: ff"),
        ("base64url_decode", "a+b/", "not base64url"),
        ("base64url_decode", "a", "not base64url"),
        ("hex_decode", "abc", "not hexadecimal"),
        ("url_decode", "%ff", "not UTF-8"),
        ("html_decode", "&#" + "9" * 10**5 + ";", "digits"),
        ("jwt_decode", "a.b", "three parts"),
        ("jwt_decode", "YQ.YQ.YQ", "not JSON"),
        ("hex_encode", "x" * (INPUT_BYTES + 1), "too long"),
    ],
)
async def test_what_is_not_encoded_so_is_refused(operation: str, text: str, words: str) -> None:
    assert words in await refusal(encode_decode, operation=operation, input=text)


@given(st.text(max_size=50))
def test_encodings_agree_with_the_library_and_come_back(text: str) -> None:
    data = text.encode()
    assert did("base64_encode", text) == base64.b64encode(data).decode()
    assert did("hex_encode", text) == data.hex()
    assert did("url_encode", text) == quote(text, safe="")
    assert unquote(did("url_encode", text)) == text
    assert did("html_encode", text) == html.escape(text)
    for name in ("base64", "base64url", "hex", "url", "html"):
        assert did(f"{name}_decode", did(f"{name}_encode", text)) == text
