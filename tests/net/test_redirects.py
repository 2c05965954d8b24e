"""Where an answer sends a client, by RFC 9110 section 15.4."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.net.failures import HttpFailed
from argentor_asgi.net.redirects import REDIRECTS, Hop, judged, next_hop

HEADERS = {"Authorization": "k", "Accept": "a", "Content-Type": "t", "X-Session": "s"}


def hop(method="GET", url="https://a.example/b/c?d", body=None):
    return Hop(method, judged(url), HEADERS, body)


@pytest.mark.parametrize(
    ("method", "status", "then"),
    [
        *(("GET", status, "GET") for status in sorted(REDIRECTS)),
        *(("HEAD", status, "HEAD") for status in sorted(REDIRECTS)),
        *(
            ("POST", 301, "GET"),
            ("POST", 302, "GET"),
            ("POST", 303, "GET"),
            ("POST", 307, "POST"),
            ("POST", 308, "POST"),
        ),
        *(("PUT", 301, "PUT"), ("PUT", 302, "PUT"), ("PUT", 303, "GET"), ("DELETE", 303, "GET")),
    ],
)
def test_the_method_and_body_are_kept_or_become_a_get(method, status, then):
    found = next_hop(hop(method, body=b"x"), status, "/e")
    assert (found.method, found.target.url) == (then, "https://a.example/e")
    assert (found.body, "Content-Type" in found.headers) == ((b"x", True) if then == method else (None, False))


@pytest.mark.parametrize(("status", "location"), [(200, "/e"), (304, "/e"), (300, "/e"), (302, None), (302, "")])
def test_not_every_answer_leads_elsewhere(status, location):
    assert next_hop(hop(), status, location) is None


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("e", "https://a.example/b/e"),
        ("../e", "https://a.example/e"),
        ("?e", "https://a.example/b/c?e"),
        ("//B.example", "https://b.example/"),
        ("https://a.example:444/#f", "https://a.example:444/"),
    ],
)
def test_a_location_is_read_from_where_one_is(location, url):
    assert next_hop(hop(), 302, location).target.url == url


def test_what_may_be_a_credential_stays_with_its_origin():
    assert next_hop(hop(), 302, "/e").headers == HEADERS
    for elsewhere in ("https://b.example/", "https://a.example:444/", "https://a.example.evil.example/"):
        assert next_hop(hop(), 302, elsewhere).headers == {"Accept": "a", "Content-Type": "t"}
    assert "Authorization" not in next_hop(hop(url="http://a.example/"), 302, "https://a.example/").headers


@pytest.mark.parametrize("location", ["http://a.example/", "http://b.example/", "HTTP://a.example:443/"])
def test_https_does_not_become_http(location):
    with pytest.raises(HttpFailed) as caught:
        next_hop(hop(), 302, location)
    assert caught.value.phase == "redirect"


@given(st.text(max_size=50), st.sampled_from(sorted(REDIRECTS)))
def test_any_location_is_a_hop_or_a_failure(location, status):
    with suppress(HttpFailed):
        found = next_hop(hop(), status, location)
        assert found is None or found.target == judged(found.target.url)


@pytest.mark.parametrize("location", ["//[", "https://[::1", "//a b/", "mailto:a@b", "https://a@b.example/", "\\\\b"])
def test_a_location_that_is_no_url_of_the_web_is_refused(location):
    with pytest.raises(HttpFailed) as caught:
        next_hop(hop(), 302, location)
    assert caught.value.phase == "address"
