"""Which addresses may be connected to, and what a URL says; agent.md 7.3, section 8 item 15."""

import ipaddress
import socket
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.net.addresses import Target, UrlRefused, host_name, is_literal, refusal, target

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)


def wrapped(inner: int) -> list[str]:
    """Return every IPv6 address that only wraps this IPv4 address."""
    client = ~inner & 0xFFFF_FFFF
    numbers = [
        0xFFFF << 32 | inner,
        inner,
        0x64_FF9B << 96 | inner,
        0x64_FF9B_0001 << 80 | inner,
        0x2002 << 112 | inner << 80,
        0x2001_0000 << 96 | inner << 64 | 0xF7F7_F7F7,
        0x2001_0000 << 96 | 0x0808_0808 << 64 | client,
    ]
    return [str(ipaddress.IPv6Address(number)) for number in numbers]


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::200e"])
def test_public_addresses_may_be_connected_to(address):
    assert refusal(address) is None
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("10.0.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("198.18.0.1", "private"),
        ("fd12:3456::1", "private"),
        ("fc00::1", "private"),
    ],
)
def test_private_addresses_are_for_what_the_operator_has_set(address, word):
    assert refusal(address) == word
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("169.254.169.254", "link-local"),
        ("169.254.0.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("febf::1", "link-local"),
        ("fd00:ec2::254", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
        ("192.0.0.192", "reserved"),
        ("0.0.0.0", "unspecified"),  # noqa: S104  nothing listens here
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("240.0.0.1", "reserved"),
        ("192.0.2.1", "reserved"),
        ("2001:db8::1", "reserved"),
        ("2001:2::1", "reserved"),
        ("fec0::1", "reserved"),
        ("100::1", "reserved"),
        ("4000::1", "reserved"),
        ("64:ff9b:1:7f00:0:100::", "reserved"),
        ("example.com", "not an IP address"),
        ("", "not an IP address"),
        ("0x7f.1", "not an IP address"),
    ],
)
def test_some_addresses_are_for_nobody(address, word):
    assert refusal(address) == word
    assert refusal(address, allow_private=True) == word


@pytest.mark.parametrize("inner", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "255.255.255.255", "224.0.0.1"])
def test_a_wrapped_address_is_refused_for_what_is_inside(inner):
    for address in wrapped(int(ipaddress.IPv4Address(inner))):
        assert refusal(address) == refusal(inner), address
        assert refusal(address, allow_private=True) == refusal(inner, allow_private=True), address


@given(V4)
def test_every_wrapper_is_judged_by_what_is_inside(inner):
    for address in wrapped(int(inner)):
        if int(ipaddress.ip_address(address)) > 1:
            assert refusal(address) == refusal(str(inner)), address


@given(V4 | V6)
def test_what_is_public_here_is_so_for_the_standard_library(ip):
    if refusal(str(ip)) is None and not is_wrapper(ip):
        assert ip.is_global
        assert not ip.is_multicast


@given(st.one_of(*[st.ip_addresses(network=network) for network in ("10.0.0.0/8", "127.0.0.0/8", "fc00::/7", "::1")]))
def test_private_networks_are_refused_to_all_but_the_operator(ip):
    assert refusal(str(ip)) in {"private", "loopback", "metadata"}


@given(V4 | V6)
def test_an_operator_reaches_no_less_than_others_and_never_what_is_for_nobody(ip):
    if refusal(str(ip)) is None:
        assert refusal(str(ip), allow_private=True) is None
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        assert refusal(str(ip), allow_private=True) is not None


def is_wrapper(ip) -> bool:
    networks = ("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/96", "2002::/16", "2001::/32")
    return any(ip in ipaddress.ip_network(network) for network in networks)


# --- URLs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("http://example.com", Target("http", "example.com", 80, "/")),
        ("HTTPS://EXAMPLE.com./a?b=c#d", Target("https", "example.com", 443, "/a?b=c")),
        ("http://example.com?q", Target("http", "example.com", 80, "/?q")),
        ("http://example.com:/a", Target("http", "example.com", 80, "/a")),
        ("http://example.com:8080/%7Ea%zz", Target("http", "example.com", 8080, "/%7Ea%zz")),
        ("https://münchen.de/ü", Target("https", "xn--mnchen-3ya.de", 443, "/%C3%BC")),
        ("http://127.0.0.1:11434/api", Target("http", "127.0.0.1", 11434, "/api")),
        ("http://\uff11\uff12\uff17\u30020.0.1/", Target("http", "127.0.0.1", 80, "/")),
        ("http://[::FFFF:127.0.0.1]:1/", Target("http", "::ffff:127.0.0.1", 1, "/")),
        ("http://my_host-1/", Target("http", "my_host-1", 80, "/")),
    ],
)
def test_a_url_is_read_in_one_way(url, read):
    assert target(url) == read
    assert target(read.url) == read


@pytest.mark.parametrize(
    "url",
    [
        *("http://user@example.com/", "http://a:b@example.com/", "http://@example.com/"),
        *("http://example.com@127.0.0.1/", "http://example.com\\@127.0.0.1/", "http://127.0.0.1\\@example.com"),
        *("http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/"),
        *("http://127.0.0.01/", "http://1.2.3.4.5/", "http://256.1.1.1/", "http://a.0x/", "http://1.2.3.4:99999/"),
        *("ftp://example.com/", "file:///etc/passwd", "//example.com/", "example.com", "", "http:example.com"),
        *("http:///a", "http://", "http://:80/", "http://a..b/", "http://.a/", "http://-a.b/", "http://a-/"),
        *("http://exa mple.com/", "http://example.com/\r\nX: y", "http://example.com/\x00", "http://e\tx.com/"),
        *("http://a%2eb/", "http://127.0.0.1%00.a/", "http://[fe80::1%25eth0]/", "http://[::1", "http://[1.2.3.4]/"),
        *("http://\ud800.com/", "http://a/\udfff", "http://a\x7f/"),
        *("http://a:0/", "http://a:65536/", "http://a:-1/", "http://a:8 0/", "http://a:b/", "http://faß.de/"),
        *("http://" + "a" * 64 + ".com/", "http://" + "a." * 127 + "com/", "http://a/" + "b" * 8192),
        *("http://a\u2100b/", "http://a[b]/", "http://[::1]b/"),
    ],
)
def test_what_two_programs_might_read_differently_is_no_url(url):
    with pytest.raises(UrlRefused):
        target(url)


@given(st.text(alphabet="0123456789abcdefx.", min_size=1, max_size=20))
def test_a_number_is_refused_or_means_what_the_resolver_makes_of_it(host):
    try:
        meant = socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return
    with suppress(UrlRefused):
        assert host_name(host) == meant


@given(st.one_of(V4, V6), st.integers(1, 65535))
def test_an_address_in_a_url_is_a_literal_that_stays_itself(ip, port):
    text = f"[{ip}]" if ip.version == 6 else str(ip)
    read = target(f"http://{text}:{port}/")
    assert is_literal(read.host)
    assert ipaddress.ip_address(read.host) == ip
    assert read.port == port


@given(
    st.text(st.characters(exclude_categories=()), max_size=40) | st.from_regex(r"https?://[ -~]{0,30}", fullmatch=True)
)
def test_any_text_is_read_or_refused_and_what_is_read_stays_so(text):
    try:
        read = target(text)
    except UrlRefused:
        return
    assert target(read.url) == read
    split = urlsplit(read.url)
    assert (split.username, split.hostname, split.port or read.port) == (None, read.host, read.port)
    assert read.url.isascii()
    assert read.url.isprintable()
    assert " " not in read.url
