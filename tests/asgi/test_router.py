import contextlib
import re
from urllib.parse import quote

import pytest
from asgi_driver import scope_of
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.asgi.router import Router, captures_of, template_parts
from argentor_asgi.errors import BadRequest, ConfigError, MethodNotAllowed, RouteNotFound


def router(*declared: str) -> Router[str]:
    """A router of declarations such as `GET /a/{x}`; each answers with its own text."""
    made: Router[str] = Router()
    for line in declared:
        method, _, template = line.partition(" ")
        made.add(method, template, line)
    return made


def found(made: Router[str], method: str, target: str, **scope: object) -> tuple[str, tuple[str, ...]]:
    return made.find(method, scope_of("http", target, [], **scope))


def test_a_literal_is_found():
    assert found(router("GET /health"), "GET", "/health") == ("GET /health", ())


def test_a_capture_takes_one_segment():
    made = router("GET /s/{id}/m/{n}")
    assert found(made, "GET", "/s/a/m/b") == ("GET /s/{id}/m/{n}", ("a", "b"))
    with pytest.raises(RouteNotFound):
        found(made, "GET", "/s/a/b/m/c")


def test_a_literal_wins_over_a_capture_in_either_order():
    for declared in (("GET /s/{id}", "GET /s/new"), ("GET /s/new", "GET /s/{id}")):
        assert found(router(*declared), "GET", "/s/new") == ("GET /s/new", ())


def test_a_literal_that_leads_nowhere_is_left_for_a_capture():
    made = router("GET /s/new/only", "GET /s/{id}/{part}")
    assert found(made, "GET", "/s/new/other") == ("GET /s/{id}/{part}", ("new", "other"))


def test_what_a_dead_end_captured_is_forgotten():
    made = router("GET /a/{x}/y/{z}/end", "GET /{p}/{q}/y/{r}")
    assert found(made, "GET", "/a/1/y/2") == ("GET /{p}/{q}/y/{r}", ("a", "1", "2"))


def test_an_empty_segment_is_no_capture():
    with pytest.raises(RouteNotFound):
        found(router("GET /s/{id}"), "GET", "/s/")


def test_a_trailing_slash_is_another_path():
    made = router("GET /a", "POST /b/")
    assert found(made, "POST", "/b/") == ("POST /b/", ())
    for method, path in (("GET", "/a/"), ("POST", "/b")):
        with pytest.raises(RouteNotFound):
            found(made, method, path)


def test_the_root_is_a_path():
    assert found(router("GET /"), "GET", "/") == ("GET /", ())


def test_another_method_is_refused_with_those_there_are():
    with pytest.raises(MethodNotAllowed) as caught:
        found(router("GET /a", "POST /a"), "DELETE", "/a")
    assert caught.value.headers == ((b"allow", b"GET, HEAD, POST"),)


def test_options_is_not_implied():
    with pytest.raises(MethodNotAllowed):
        found(router("GET /a"), "OPTIONS", "/a")


def test_a_get_answers_head_unless_a_head_is_declared():
    assert found(router("GET /a"), "HEAD", "/a")[0] == "GET /a"
    for declared in (("GET /a", "HEAD /a"), ("HEAD /a", "GET /a")):
        assert found(router(*declared), "HEAD", "/a")[0] == "HEAD /a"


def test_the_path_is_split_before_it_is_decoded():
    made = router("GET /f/{name}", "GET /f/{name}/raw")
    assert found(made, "GET", "/f/a%2Fraw") == ("GET /f/{name}", ("a/raw",))


def test_an_encoded_literal_is_the_same_path():
    assert found(router("GET /health"), "GET", "/%68ealth") == ("GET /health", ())


def test_a_literal_may_hold_any_character():
    made = router("GET /.well-known/größe:1")
    assert found(made, "GET", quote("/.well-known/größe:1", safe="/:")) == ("GET /.well-known/größe:1", ())


@pytest.mark.parametrize("target", ["/s/%ff", "/s/%C3%28", "/s/\xff", "/%ff"])
def test_a_path_that_is_not_utf_8_is_a_bad_request(target: str):
    with pytest.raises(BadRequest):
        found(router("GET /s/{id}"), "GET", target)


@pytest.mark.parametrize("target", ["*", "a", "", "//", "/a/b/c/d/e/f", "/s/a/", "//s/a"])
def test_whatever_is_no_declared_path_is_refused(target: str):
    with pytest.raises((BadRequest, RouteNotFound)):
        router("GET /s/{id}").search("GET", target.encode())


def test_an_absolute_target_is_reduced_to_its_path():
    made = router("GET /s/{id}", "GET /")
    assert made.search("GET", b"http://host:80/s/1?x=/s/2") == ("GET /s/{id}", ("1",))
    assert made.search("GET", b"HTTPS://host") == ("GET /", ())


def test_a_query_left_in_the_raw_path_is_cut():
    made = router("GET /health", "GET /s/{id}")
    assert made.find("GET", {"path": "/health", "raw_path": b"/health?a=/s/1"}) == ("GET /health", ())
    assert made.find("GET", {"path": "/s/1", "raw_path": b"/s/1?"}) == ("GET /s/{id}", ("1",))


def test_a_server_without_raw_path_is_served_from_the_decoded_one():
    made = router("GET /s/{id}", "GET /health")
    assert found(made, "GET", "/s/a%25b%3Fc", raw_path=None) == ("GET /s/{id}", ("a%b?c",))
    assert found(made, "GET", "/health", raw_path=None) == ("GET /health", ())


@pytest.mark.parametrize("raw", [True, False])
def test_the_prefix_of_a_mount_is_stripped_by_segments(raw: bool):
    made = router("GET /health", "GET /")
    kept = {} if raw else {"raw_path": None}
    assert found(made, "GET", "/api/v1/health", root_path="/api/v1", **kept) == ("GET /health", ())
    assert found(made, "GET", "/%61pi/v1/health", root_path="/api/v1", **kept) == ("GET /health", ())
    assert found(made, "GET", "/health", root_path="/api/v1", **kept) == ("GET /health", ())
    assert found(made, "GET", "/api/v1", root_path="/api/v1/", **kept) == ("GET /", ())
    with pytest.raises(RouteNotFound):
        found(made, "GET", "/apiary/health", root_path="/api", **kept)


@pytest.mark.parametrize(
    ("declared", "fix"),
    [
        (["GET /a", "GET /a"], "declared twice"),
        (["GET /{x}", "POST /{y}"], "same names"),
        (["HEAD /a", "HEAD /a"], "declared twice"),
        (["GET a"], "must start with one '/'"),
        (["GET /a//b"], "no empty segment"),
        (["GET /a{x}"], "whole segment"),
        (["GET /{}"], "whole segment"),
        (["GET /{x:int}"], "whole segment"),
        (["GET /{x}/{x}"], "rename one"),
    ],
)
def test_a_wrong_declaration_says_what_to_write(declared: list[str], fix: str):
    with pytest.raises(ConfigError, match=re.escape(fix)):
        router(*declared)


# --- the slow reference ------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c")
SEGMENTS = st.sampled_from([*NAMES, "{x}", "{y}"])
METHODS = ("GET", "POST")


@st.composite
def tables(draw: st.DrawFn) -> list[str]:
    """Declarations without duplicates: a template's captures are named by where they stand."""
    templates = draw(st.lists(st.lists(st.sampled_from([*NAMES, "{}"]), max_size=4), max_size=8))
    written = ["/" + "/".join(part.replace("{}", f"{{at{at}}}") for at, part in enumerate(t)) for t in templates]
    lines = [f"{draw(st.sampled_from(METHODS))} {template}" for template in written]
    return list(dict.fromkeys(lines))


def first_fit_by_regex(lines: list[str], method: str, path: str) -> tuple[str, tuple[str, ...]] | list[str] | None:
    """The slow reference: all matching templates, the one with its literals furthest left, then its methods."""
    fits: dict[str, tuple[str, ...]] = {}
    for line in lines:
        template = line.partition(" ")[2]
        pattern = "/".join("([^/]+)" if part.startswith("{") else re.escape(part) for part in template.split("/"))
        if match := re.fullmatch(pattern, path):
            fits[template] = match.groups()
    if not fits:
        return None
    best = min(fits, key=lambda template: [part.startswith("{") for part in template.split("/")])
    methods = {line.partition(" ")[0] for line in lines if line.partition(" ")[2] == best}
    return (f"{method} {best}", fits[best]) if method in methods else sorted(methods)


def by_trie(lines: list[str], method: str, path: str) -> tuple[str, tuple[str, ...]] | list[str] | None:
    try:
        return found(router(*lines), method, path)
    except RouteNotFound:
        return None
    except MethodNotAllowed as error:
        return [name for name in error.headers[0][1].decode().split(", ") if name != "HEAD"]


@settings(max_examples=300)
@given(
    tables(),
    st.sampled_from(METHODS),
    st.lists(st.sampled_from([*NAMES, "", "z"]), max_size=5).map(lambda parts: "/" + "/".join(parts)),
)
def test_the_trie_agrees_with_the_slow_reference(lines: list[str], method: str, path: str):
    assert by_trie(lines, method, path) == first_fit_by_regex(lines, method, path)


@given(st.lists(st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable()), min_size=1, max_size=4))
def test_any_text_travels_in_a_segment(values: list[str]):
    made = router("GET " + "".join(f"/{{x{at}}}" for at in range(len(values))))
    target = "".join("/" + quote(value, safe="") for value in values)
    assert found(made, "GET", target)[1] == tuple(values)


@given(st.binary(max_size=30))
def test_any_bytes_are_a_path_or_refused(path: bytes):
    made = router("GET /a", "GET /{x}/b", "GET /")
    with contextlib.suppress(BadRequest, RouteNotFound):
        made.search("GET", path)


def test_captures_are_listed_in_order():
    assert captures_of("/a/{x}/b/{y_2}") == ["x", "y_2"]
    assert template_parts("/a/{x}") == ["a", "{x}"]
