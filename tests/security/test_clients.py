"""`argentor_asgi.security.clients`: the client is the first hop, from the right, that nobody we trust stands behind."""

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.security.clients import HEADER_BYTES, HOPS, Networks, block_of, client_address

OURS = Networks(["10.0.0.0/8", "2001:db8:ffff::/48", "192.0.2.7"])
UNIX = Networks(["unix", "10.0.0.0/8"])
PEER = "10.0.0.1"

TRUSTED = st.sampled_from(["10.1.2.3", "192.0.2.7", "2001:db8:ffff::1"])
FOREIGN = st.sampled_from(["203.0.113.9", "2001:db8::1", "8.8.8.8", "192.0.2.8"])
HIDDEN = st.sampled_from(
    ["unknown", "_hidden", "not-an-address", "1.2.3", "1.2.3.4.5", "fe80::1%eth0", "", "[::1", "]"]
)


def by_custom(value, peer=PEER, trusted=OURS):
    return client_address(peer, None, value.encode("latin-1"), trusted)


def by_standard(value, peer=PEER, trusted=OURS):
    return client_address(peer, value.encode("latin-1"), None, trusted)


@st.composite
def written(draw, address):
    """Return the address as proxies write it: with a port or without."""
    text = draw(address)
    port = draw(st.sampled_from(["", ":80", ":65535", ":_x"]))
    if ":" in text:
        return text if not port and draw(st.booleans()) else f"[{text}]{port}"
    return f"{text}{port}"


def plain(node):
    """Return the address in what `written` made."""
    if node.startswith("["):
        return node[1:].partition("]")[0]
    return node if node.count(":") > 1 else node.partition(":")[0]


# --- who is believed ---------------------------------------------------------------------------------------------


@given(st.sampled_from(["203.0.113.9", "2001:db8::1", None]), st.binary(max_size=60), st.binary(max_size=60))
def test_a_peer_that_is_not_trusted_is_the_client_whatever_it_says(peer, forwarded, forwarded_for):
    for trusted in (OURS, Networks([])):
        assert client_address(peer, forwarded, forwarded_for, trusted) == peer


@pytest.mark.parametrize("value", [None, b"", b" ", b","])
def test_a_trusted_peer_that_says_nothing_is_the_client(value):
    assert client_address(PEER, value, None, OURS) == PEER
    assert client_address(PEER, None, value, OURS) == PEER


def test_a_unix_socket_is_trusted_where_it_is_listed():
    assert by_custom("203.0.113.9", None, UNIX) == "203.0.113.9"
    assert by_custom("203.0.113.9, 10.0.0.5", None, UNIX) == "203.0.113.9"
    assert by_custom("203.0.113.9", None, OURS) is None


def test_a_trusted_peer_may_be_mapped_into_ipv6():
    assert by_custom("203.0.113.9", "::ffff:10.0.0.1") == "203.0.113.9"
    assert by_custom("::ffff:203.0.113.9") == "203.0.113.9"


@pytest.mark.parametrize("entry", ["", "proxy", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8,", "*"])
def test_what_is_no_network_is_refused_by_name(entry):
    with pytest.raises(ValueError, match="is no address or network of a proxy"):
        Networks([entry])


# --- the walk ----------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(
    st.lists(written(TRUSTED | FOREIGN | HIDDEN), max_size=3),
    written(FOREIGN),
    st.lists(written(TRUSTED), max_size=4),
    st.sampled_from([",", ", ", " ,\t", ",,"]),
)
def test_the_client_is_the_first_from_the_right_that_is_not_trusted(invented, client, proxies, comma):
    assert by_custom(comma.join([*invented, client, *proxies])) == str(ip_address(plain(client)))


@given(st.lists(written(TRUSTED), min_size=1, max_size=5))
def test_when_all_are_trusted_it_is_the_farthest(proxies):
    assert by_custom(",".join(proxies)) == plain(proxies[0])


@given(st.lists(written(FOREIGN), max_size=2), HIDDEN.filter(bool), st.lists(written(TRUSTED), max_size=4))
def test_a_hop_that_is_no_address_leaves_the_last_one_that_was_trusted(invented, hidden, proxies):
    last = plain(proxies[0]) if proxies else PEER
    assert by_custom(", ".join([*invented, hidden, *proxies])) == last


@settings(max_examples=50)
@given(
    st.lists(written(TRUSTED | FOREIGN), max_size=3),
    written(FOREIGN),
    st.lists(written(TRUSTED), max_size=4),
    st.sampled_from(["for=%s", "For=%s", "FOR=%s;proto=https", 'by=10.0.0.1;for=%s;host="a"', "proto=http ; for=%s "]),
)
def test_the_standard_header_says_the_same(invented, client, proxies, form):
    def element(node):
        return form % (f'"{node}"' if ":" in node else node)

    assert by_standard(", ".join(map(element, [*invented, client, *proxies]))) == str(ip_address(plain(client)))


@pytest.mark.parametrize(
    "element",
    [
        "for=unknown",
        "for=_secret",
        'for="_gazonk"',
        "by=203.0.113.60",
        "203.0.113.9",
        "for=203.0.113.9;for=203.0.113.8",
        "for=[2001:db8::1]",
        'for="[203.0.113.9]"',
        'for="203.0.113.9',
        'for=203.0.113.9"',
        'for="203.0.113.9\\"',
        "for = 203.0.113.9",
        "for=203.0.113.9;",
        "for=203.0.113.9;;proto=http",
        'for=203.0.113.9;host="a;b"',
        "for=",
        'for=""',
        "for=203.0.113.9:123456",
        'for="203.0.113.9:"',
        "for=\xe9",
    ],
)
def test_an_element_that_hides_or_garbles_who_it_is_for_leaves_the_last_one_that_was_trusted(element):
    assert by_standard(element) == PEER
    assert by_standard(f"for=8.8.8.8, {element}, for=10.9.9.9") == "10.9.9.9"


def test_an_open_quote_of_the_client_hides_nothing_that_a_proxy_added():
    assert by_standard('for="8.8.8.8, for=203.0.113.9') == "203.0.113.9"


def test_two_headers_that_agree_are_believed_and_of_two_that_do_not_neither():
    assert client_address(PEER, b"for=203.0.113.9", b"203.0.113.9:80", OURS) == "203.0.113.9"
    assert client_address(PEER, b"for=8.8.8.8", b"203.0.113.9", OURS) == PEER


# --- bounds ------------------------------------------------------------------------------------------------------


def test_no_more_hops_are_walked_than_the_bound():
    proxies = [f"10.0.1.{number}" for number in range(HOPS)]
    assert by_custom(", ".join(["203.0.113.9", *proxies[1:]])) == "203.0.113.9"
    assert by_custom(", ".join(["203.0.113.9", *proxies])) == proxies[0]
    many = ["203.0.113.9"] + ["for=10.0.0.2"] * HOPS
    assert by_standard(", ".join(many)) == "10.0.0.2"


@pytest.mark.parametrize("junk", ["x" * 10 * HEADER_BYTES, "1.2.3.4," * HEADER_BYTES, '"' * HEADER_BYTES])
def test_of_a_long_header_the_end_counts(junk):
    assert by_custom(f"{junk}, 203.0.113.9") == "203.0.113.9"
    assert by_standard(f"{junk}, for=203.0.113.9") == "203.0.113.9"


def test_a_hop_that_the_cut_goes_through_does_not_count():
    tail = ", 10.0.0.2".ljust(HEADER_BYTES - len("3.0.113.9"))
    assert by_custom(f"203.0.113.9{tail}") == "10.0.0.2"
    assert by_custom("x" * (HEADER_BYTES + 1)) == PEER


@settings(max_examples=50)
@given(st.binary(max_size=80), st.binary(max_size=80), st.sampled_from([PEER, None, "/run/x.sock", "", "8.8.8.8"]))
def test_any_bytes_give_an_address_or_the_peer(forwarded, forwarded_for, peer):
    found = client_address(peer, forwarded, forwarded_for, UNIX)
    assert found == peer or ip_address(found)


# --- blocks ------------------------------------------------------------------------------------------------------


@given(st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None), st.integers(0, 2**64 - 1))
def test_an_ipv6_customer_is_one_block(address, host):
    neighbour = type(address)(int(address) >> 64 << 64 | host)
    if neighbour.ipv4_mapped is None:
        assert block_of(str(address)) == block_of(str(neighbour))
    beyond = type(address)(int(address) ^ 1 << 64)
    assert block_of(str(address)) != block_of(str(beyond))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_a_block_of_its_own_however_it_is_written(address):
    assert block_of(str(address)) == block_of(f"::ffff:{address}") == str(address)


@given(st.text(max_size=200))
def test_any_text_has_a_short_block(text):
    assert len(block_of(text)) <= 45
