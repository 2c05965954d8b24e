import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.security import hosts
from argentor_asgi.security.hosts import is_local_name, is_loopback, page_origin


def test_what_is_remembered_of_hosts_and_origins_is_bounded():
    for n in range(hosts.DECISIONS + 10):
        is_local_name(b"a%d.localhost" % n)
        page_origin(b"http://a%d" % n)
        is_loopback(f"127.0.0.{n}")
    for remembered in (is_local_name, page_origin, is_loopback):
        assert remembered.cache_info().currsize == hosts.DECISIONS


def test_a_host_and_an_origin_are_read_up_to_their_bound():
    labels = b"a." * ((hosts.HEADER_BYTES - 9) // 2)
    fits = b"a" * (hosts.HEADER_BYTES - 9 - len(labels)) + labels + b"localhost"
    assert len(fits) == hosts.HEADER_BYTES
    assert is_local_name(fits)
    assert not is_local_name(b"a" + fits)
    origin = b"http://" + b"a" * (hosts.HEADER_BYTES - 7)
    assert page_origin(origin) == origin.decode()
    assert page_origin(origin + b"a") is None


@given(st.ip_addresses(), st.none() | st.integers(0, 99_999))
def test_a_literal_host_is_local_exactly_when_its_address_is_loopback(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int | None
):
    name = f"[{address}]" if address.version == 6 else str(address)
    host = name if port is None else f"{name}:{port}"
    mapped = address.ipv4_mapped if address.version == 6 else None
    truth = (mapped or address).is_loopback and (port or 0) <= 65_535
    assert is_local_name(host.encode()) == truth
    assert is_loopback(str(address)) == (mapped or address).is_loopback


@given(st.binary(max_size=30))
def test_any_host_bytes_are_judged(host: bytes):
    local = is_local_name(host)
    name = host.decode("latin-1").lower()
    assert not local or name.rsplit(":", 1)[0].endswith(("localhost", "]")) or name.startswith("127.")
