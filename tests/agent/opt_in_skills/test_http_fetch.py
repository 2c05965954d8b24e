import gzip
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_server import Asked, Line, raw_server
from skillcalls import answer, outcome, refusal

from argentor_asgi.agent.opt_in_skills.fitting import TEXT_BYTES
from argentor_asgi.agent.opt_in_skills.http_fetch import READ_BYTES, charset_of, http_fetch_skill, public_client
from argentor_asgi.agent.policy import Allow, Deny, Policy
from argentor_asgi.agent.skills import FunctionSkill
from argentor_asgi.agent_sections import Agent, Capabilities
from argentor_asgi.net.http import Client, Timeouts

pytestmark = pytest.mark.slow

HOSTS = ("127.0.0.1",)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    made = Client(timeouts=Timeouts(first_byte_s=5, idle_s=5, total_s=10), allow_private=True)
    yield made
    await made.aclose()


@pytest.fixture
def fetch(client: Client) -> FunctionSkill:
    return http_fetch_skill(client, HOSTS)


async def hello(_: Asked, line: Line) -> None:
    await line.answer(b"hello", headers={"Content-Type": "text/plain", "Set-Cookie": "a=b", "ETag": '"1"'})


def sends(body: bytes, **headers: str):
    async def talk(_: Asked, line: Line) -> None:
        await line.answer(body, **headers)

    return talk


def leads(location: str):
    async def talk(_: Asked, line: Line) -> None:
        await line.answer(b"moved", 302, location=location)

    return talk


async def test_a_page_is_read(fetch: FunctionSkill) -> None:
    async with raw_server(hello) as raw:
        assert await answer(fetch, url=f"{raw.url}/a?b=c#d") == {
            "url": f"{raw.url}/a?b=c",
            "status": 200,
            "headers": {"content-length": "5", "content-type": "text/plain", "etag": '"1"'},
            "text": "hello",
            "bytes": 5,
            "truncated": False,
        }
        assert (raw.asked[0].method, raw.asked[0].target) == ("GET", "/a?b=c")


async def test_head_asks_for_no_body(fetch: FunctionSkill) -> None:
    async def told(_: Asked, line: Line) -> None:
        await line.head(200, {"content-length": "5000"})

    async with raw_server(told) as raw:
        got = await answer(fetch, url=raw.url, method="HEAD")
        assert (got["text"], got["headers"]["content-length"]) == ("", "5000")
        assert raw.asked[0].method == "HEAD"


async def test_a_status_that_is_no_success_is_an_answer(fetch: FunctionSkill) -> None:
    async def missing(_: Asked, line: Line) -> None:
        await line.answer(b"none", 404)

    async with raw_server(missing) as raw:
        got = await answer(fetch, url=raw.url)
        assert (got["status"], got["text"]) == (404, "none")


async def test_only_harmless_headers_are_sent(fetch: FunctionSkill) -> None:
    async with raw_server(hello) as raw:
        await answer(fetch, url=raw.url, headers={"Accept-Language": "es", "range": "bytes=0-1"})
        assert raw.asked[0].headers["accept-language"] == "es"
        assert raw.asked[0].headers["range"] == "bytes=0-1"
        for name in ("Authorization", "Cookie", "Host", "X-Api-Key", "Transfer-Encoding", "Metadata-Flavor"):
            assert "may not be sent" in await refusal(fetch, url=raw.url, headers={name: "a"})
        for value in ("a\r\nx: y", "a\x00", "\u20ac", "a" * 1025):
            assert "one line" in await refusal(fetch, url=raw.url, headers={"accept": value})
        assert len(raw.asked) == 1


async def test_only_reading_methods_are_offered(fetch: FunctionSkill) -> None:
    assert "argument validation failed" in await refusal(fetch, url="http://127.0.0.1/", method="POST")
    assert fetch.descriptor.effect == "read"


async def test_the_body_is_capped_while_it_is_read(fetch: FunctionSkill) -> None:
    """agent.md 1.10 D26: the original downloaded all and then measured."""

    async def endless(_: Asked, line: Line) -> None:
        await line.stream()
        while not line.closed.done():
            await line.chunk(b"x" * 1000)

    async with raw_server(endless) as raw:
        got = await answer(fetch, url=raw.url, max_bytes=3000)
        assert (got["text"], got["truncated"]) == ("x" * 3000, True)
        await raw.lines[0].gone()
    assert "argument validation failed" in await refusal(fetch, url=raw.url, max_bytes=READ_BYTES + 1)


async def test_a_body_of_the_cap_is_whole(fetch: FunctionSkill) -> None:
    async with raw_server(sends(b"x" * 100)) as raw:
        assert (await answer(fetch, url=raw.url, max_bytes=100))["truncated"] is False
        assert (await answer(fetch, url=raw.url, max_bytes=99))["truncated"] is True


async def test_a_long_text_is_cut_to_what_the_output_holds(fetch: FunctionSkill) -> None:
    async with raw_server(sends(b"\x01" * 300_000)) as raw:
        got = await answer(fetch, url=raw.url, max_bytes=READ_BYTES)
        assert 0 < got["bytes"] == len(got["text"]) <= TEXT_BYTES // 6
        assert got["truncated"] is True


async def test_a_compressed_body_is_capped_as_it_unfolds(fetch: FunctionSkill) -> None:
    async with raw_server(sends(gzip.compress(b"x" * 10_000_000), content_encoding="gzip")) as raw:
        got = await answer(fetch, url=raw.url, max_bytes=1000)
        assert (got["text"], got["truncated"]) == ("x" * 1000, True)


async def test_the_charset_is_read(fetch: FunctionSkill) -> None:
    async with raw_server(
        sends("a\u00f1o".encode("latin-1"), content_type="text/html; charset=ISO-8859-1"), sends(b"a\xff")
    ) as raw:
        assert (await answer(fetch, url=raw.url))["text"] == "a\u00f1o"
        assert (await answer(fetch, url=raw.url))["text"] == "a\ufffd"


@pytest.mark.parametrize("named", ["hex", "zlib", "idna", "punycode", "unicode_escape", "utf-7", "rot13", "x" * 99, ""])
def test_a_codec_that_is_no_charset_of_the_web_is_not_used(named: str) -> None:
    assert charset_of(f"text/plain; charset={named}") == "utf-8"


@given(st.text(max_size=60))
def test_every_charset_is_one_that_decodes_text(text: str) -> None:
    assert isinstance(b"a".decode(charset_of(f"text/html; charset={text}"), "replace"), str)


@pytest.mark.parametrize(
    "named",
    [
        *("utf-8", "UTF8", "utf-16", "utf-16le", "utf-32", "us-ascii", "latin1", "iso-8859-15", "windows-1252"),
        *("cp1251", "koi8-r", "koi8-u", "gbk", "gb2312", "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr"),
        "iso-2022-jp",
    ],
)
def test_the_charsets_of_the_web_are_known(named: str) -> None:
    charset = charset_of(f'text/html; charset="{named}"')
    assert charset == named.lower()
    assert isinstance(b"aaaa".decode(charset, "replace"), str)


async def test_redirects_are_followed_to_hosts_that_are_granted(fetch: FunctionSkill) -> None:
    async with raw_server(leads("/b"), hello) as raw:
        got = await answer(fetch, url=f"{raw.url}/a")
        assert (got["url"], got["text"]) == (f"{raw.url}/b", "hello")


async def test_a_redirect_to_another_host_is_refused_before_it_is_asked(fetch: FunctionSkill) -> None:
    """agent.md 1.10 D26: the original looked at the first host alone."""
    async with raw_server(hello) as other:
        async with raw_server(leads(f"http://localhost:{other.port}/")) as raw:
            assert "localhost is not among the allowed hosts" in await refusal(fetch, url=raw.url)
        assert other.asked == []


async def test_redirects_end(fetch: FunctionSkill) -> None:
    async with raw_server(leads("/again")) as raw:
        assert "redirects once more than 5 times" in await refusal(fetch, url=raw.url)
        assert len(raw.asked) == 6


async def test_a_host_that_is_not_granted_is_not_asked(client: Client) -> None:
    async with raw_server(hello) as raw:
        got = await refusal(http_fetch_skill(client, (".example.com",)), url=raw.url)
        assert "127.0.0.1 is not among the allowed hosts" in got
        assert raw.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
async def test_the_gateways_own_client_does_not_go_to_private_addresses(host: str) -> None:
    """agent.md 1.10 D26: whatever a name resolves to, and whatever is granted."""
    own = public_client()
    async with raw_server(hello) as raw:
        got = await outcome(http_fetch_skill(own, ("*",)), {"url": f"http://{host}:{raw.port}/"})
        assert got.is_error
        assert raw.asked == []
    await own.aclose()


async def test_what_goes_wrong_is_said_without_the_query(fetch: FunctionSkill) -> None:
    async def cut(_: Asked, line: Line) -> None:
        await line.head(200, {"content-length": "10"})
        await line.send(b"abc")
        await line.cut()

    async with raw_server(cut) as raw:
        said = await refusal(fetch, url=f"{raw.url}/?key=hidden")
        assert said.startswith("The address could not be read: ")
        assert "hidden" not in said
    assert "could not be read" in await refusal(fetch, url="ftp://127.0.0.1/")


def test_the_policy_checks_the_host_before(client: Client) -> None:
    descriptor = http_fetch_skill(client, ("*",)).descriptor
    policy = Policy(Agent(permission_mode="read_only"), Capabilities(network_access=(".example.com",)))
    assert policy.judge(descriptor, {"url": "https://www.example.com/"}) == Allow()
    assert isinstance(policy.judge(descriptor, {"url": "https://evil.test/#www.example.com"}), Deny)
    assert isinstance(Policy(Agent(), Capabilities()).judge(descriptor, {"url": "https://example.com/"}), Deny)
