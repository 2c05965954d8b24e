"""`argentor_asgi.api.paging`: the header that names the next page."""

from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.api.paging import next_page

pytestmark = pytest.mark.slow

VALUES = st.none() | st.integers(0, 10**6) | st.text(st.characters(codec="utf-8"), min_size=1)


@given(st.dictionaries(st.sampled_from(["limit", "cursor", "session_id", "after"]), VALUES))
def test_the_next_page_is_the_same_path_with_every_parameter_that_is_given(query):
    [(name, value)] = next_page(**query)
    reference, _, relation = value.decode("ascii").partition("; ")
    assert (name, relation) == (b"link", 'rel="next"')
    there = urlsplit(urljoin("http://host/mounted/api/v1/runs?limit=3", reference.removeprefix("<").removesuffix(">")))
    given_ones = {key: [str(found)] for key, found in query.items() if found is not None}
    if given_ones:
        assert (there.path, parse_qs(there.query, strict_parsing=True)) == ("/mounted/api/v1/runs", given_ones)


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_no_value_can_end_the_reference_or_the_header(text):
    [(_, value)] = next_page(cursor=text)
    assert value.count(b">") == value.count(b"<") == 1
    assert not {b"\r", b"\n", b" "} & {value[:-12][at : at + 1] for at in range(len(value) - 12)}
