"""`argentor_asgi.config`: the settings of which there are many, keys and plans, and what must hold between settings."""

import json
import tomllib
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.config import ApiKey, Auth, Config, Key, Plan, Secret, check, effective, load
from argentor_asgi.errors import ConfigError

KEY = "ak_5up3r-s3cr3t-value"
HERE = Path(__file__).parent
DIGEST = "ab" * 32
WHOLE = f"""
[plans.pro]
requests_per_minute = 600
runs = 5

[[auth.keys]]
name = "ci"
key = "{KEY}"
scopes = ["chat:write", "sessions:read"]
tenant = "acme"
plan = "pro"
expires_at = 2030-01-01T02:00:00+02:00

[[auth.keys]]
name = "ops"
sha256 = "{DIGEST}"
"""
NEVER = datetime(2030, 1, 1, tzinfo=UTC)


def from_toml(directory: Path, text: str, **environ: str) -> Config:
    (directory / "argentor.toml").write_text(text, encoding="utf-8")
    return load(environ, directory)


def refusal(directory: Path, text: str = "", **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        from_toml(directory, text, **environ)
    return str(caught.value)


def test_a_key_says_who_may_what_under_which_plan_and_until_when(tmp_path: Path):
    found = from_toml(tmp_path, WHOLE)
    assert found.plans == {"pro": Plan(requests_per_minute=600, runs=5)}
    assert found.auth.held == (
        ApiKey("ci", sha256(KEY.encode()).digest(), ("chat:write", "sessions:read"), "acme", "pro", NEVER),
        ApiKey("ops", bytes.fromhex(DIGEST), ("*",), "default", None, None),
    )
    assert found.auth.held[0].expires_at.tzinfo is UTC
    check(found)


def test_keys_and_plans_are_json_in_the_environment_and_win_over_the_file(tmp_path: Path):
    (tmp_path / "keys.json").write_text(
        json.dumps([{"name": "ci", "key": KEY, "plan": "free", "expires_at": "2030-01-01T02:00:00+02:00"}])
    )
    environ = {"ARGENTOR_AUTH_KEYS_FILE": "keys.json", "ARGENTOR_PLANS": '{"free": {"tokens_per_day": 0}}'}
    found = from_toml(tmp_path, WHOLE, **environ)
    assert found.plans == {"free": Plan(tokens_per_day=0)}
    assert [(key.name, key.scopes, key.expires_at) for key in found.auth.keys] == [("ci", ("*",), NEVER)]
    assert found.sources["auth.keys"] == "ARGENTOR_AUTH_KEYS_FILE"


def test_keys_may_stand_in_the_json_of_their_table(tmp_path: Path):
    found = load({"ARGENTOR_AUTH": json.dumps({"keys": [{"name": "ci", "key": KEY}]})}, tmp_path)
    assert found.auth.held[0].name == "ci"


@pytest.mark.parametrize("text", ['"keys"', '{"keys": [}', "[]", ""])
def test_a_table_of_keys_that_is_not_json_does_not_show_itself(tmp_path: Path, text: str):
    assert refusal(tmp_path, ARGENTOR_AUTH=text) == "ARGENTOR_AUTH: expected a JSON object"


def test_variables_are_expanded_inside_rows(tmp_path: Path):
    found = from_toml(tmp_path, '[[auth.keys]]\nname = "ci"\nkey = "${MY_KEY}"\n', MY_KEY=KEY)
    assert found.auth.keys[0].key == Secret(KEY)
    message = refusal(tmp_path, '[[auth.keys]]\nname = "ci"\nkey = "${NO_KEY}"\n')
    assert message == "auth.keys[0].key: the environment variable 'NO_KEY' is not set"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("plan = 5", "auth.keys[1].plan (ARGENTOR) is 5; expected text"),
        ("plan = 'gold'", "auth.keys[1].plan: there is no plan `gold` in `plans`; none is configured"),
        ("paln = 'gold'", "auth.keys[1] (ARGENTOR): there is no 'paln' in it; the nearest is plan"),
        ("scopes = 'chat:write'", "auth.keys[1].scopes (ARGENTOR) is 'chat:write'; expected a list of texts"),
        ("scopes = ['chat']", "auth.keys[1].scopes (ARGENTOR) is ['chat']: 'chat' is no scope"),
        ("scopes = ['chat:*']", "'chat:*' is no scope"),
        ("scopes = ['Chat:read']", "'Chat:read' is no scope"),
        ("scopes = []", "expected 1 to 64 scopes"),
        (f"scopes = {['a:read'] * 65}", "expected 1 to 64 scopes"),
        ("tenant = 'a b'", "auth.keys[1].tenant (ARGENTOR) is 'a b': a name is 1 to 64"),
        ("tenant = ''", "auth.keys[1].tenant (ARGENTOR) is ''"),
        ("expires_at = 2030-01-01T00:00:00", "auth.keys[1].expires_at (ARGENTOR) is datetime"),
        ("expires_at = 2030-01-01", "expected a time with its offset from UTC"),
        ("expires_at = 5", "auth.keys[1].expires_at (ARGENTOR) is 5; expected a time with its offset"),
        ("expires_at = '2030-01-01T00:00:00'", "expected a time with its offset from UTC"),
        ("expires_at = 0001-01-01T00:00:00+02:00", "expected a time with its offset from UTC"),
        ("expires_at = 'soon'", "auth.keys[1].expires_at (ARGENTOR) is 'soon'"),
        (f"sha256 = '{DIGEST}'", "auth.keys (ARGENTOR): number 1, `b`: exactly one of `key` and `sha256` is needed"),
    ],
)
def test_a_wrong_row_is_answered_with_its_place(tmp_path: Path, row: str, words: str):
    text = f"[[auth.keys]]\nname='a'\nkey='a'\n[[auth.keys]]\nname='b'\nkey='{KEY}'\n{row}\n"
    message = refusal(tmp_path, text).replace(f"{tmp_path}/argentor.toml", "ARGENTOR")
    assert words in message
    assert KEY not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = 'a'", "exactly one of"),
        ("key = 'a'", "auth.keys[0].name (ARGENTOR) is missing"),
        ("name = 'a'\nkey = ''", "an API key is empty"),
        ("name = 'a'\nkey = ' '", "an API key is empty"),
        (f"name = 'a'\nkey = '{KEY} '", "visible ASCII"),
        (f"name = 'a'\nkey = '{KEY * 60}'", "visible ASCII"),
        (f"name = 'a'\nkey = ['{KEY}']", "auth.keys[0].key (ARGENTOR) is ***; expected text"),
        (f"name = 'a'\nsha256 = '{KEY}'", "`sha256` is not 64 hex digits"),
        ("name = 'anonymous'\nkey = 'a'", "auth.keys[0].name (ARGENTOR) is 'anonymous': a name is"),
        ("name = 'a:b'\nkey = 'a'", "auth.keys[0].name"),
    ],
)
def test_a_row_that_is_no_key_is_refused_without_showing_it(tmp_path: Path, text: str, words: str):
    message = refusal(tmp_path, f"[[auth.keys]]\n{text}\n").replace(f"{tmp_path}/argentor.toml", "ARGENTOR")
    assert words in message
    assert KEY not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[auth]\nkeys = 5\n", "auth.keys (ARGENTOR) is ***; expected a list of tables"),
        ("[auth]\nkeys = {name = 'a', key = 'b'}\n", "auth.keys (ARGENTOR) is ***; expected a list of tables"),
        ("[auth]\nkeys = ['a']\n", "auth.keys[0] (ARGENTOR) is no table"),
        ("plans = 5\n", "plans (ARGENTOR) is 5; expected a table of tables"),
        ("[plans]\npro = 5\n", "plans.pro (ARGENTOR) is no table"),
        ("[plans.pro]\nrunz = 5\n", "plans.pro (ARGENTOR): there is no 'runz' in it; the nearest is runs"),
        ("[plans.pro]\nruns = 0\n", "plans.pro.runs (ARGENTOR) is 0; expected a whole number, at least 1, at most"),
        ("[plans.pro]\nruns = true\n", "plans.pro.runs (ARGENTOR) is True"),
        ("[plans.'a b']\nruns = 1\n", "a name is 1 to 64"),
        ("[auth]\napi_keys=['a:one']\n[[auth.keys]]\nname='a'\nkey='two'\n", "two API keys are named `a`"),
        ("[auth]\napi_keys=['a:one']\n[[auth.keys]]\nname='b'\nkey='one'\n", "under two names"),
        ("[[auth.keys]]\nname='a'\nkey='one'\n[[auth.keys]]\nname='a'\nkey='two'\n", "two API keys are named `a`"),
        ("[shutdown]\ndrain_s = 20\ntotal_s = 19.5\n", "total_s is 19.5, less than shutdown.drain_s, which is 20"),
        ("[auth]\ntrusted_proxies = ['proxy.example']\n", "expected addresses, networks such as 10.0.0.0/8, or unix"),
        ("[auth]\ntrusted_proxies = ['10.0.0.1/8']\n", "has host bits set"),
        ("[otel]\nendpoint = '127.0.0.1:4318'\n", "expected http(s)://"),
        ("[otel]\nendpoint = 'ftp://x'\n", "expected http(s)://"),
        ("[otel]\nendpoint = 'http://me:pass@x'\n", "otel.endpoint (ARGENTOR) is ***@x"),
    ],
)
def test_what_cannot_be_is_said_in_words(tmp_path: Path, text: str, words: str):
    message = refusal(tmp_path, text).replace(f"{tmp_path}/argentor.toml", "ARGENTOR")
    assert words in message
    assert "pass@" not in message


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("ARGENTOR_AUTH_KEYS", f"ci:{KEY}", "auth.keys (ARGENTOR_AUTH_KEYS): expected a list of tables, in JSON"),
        ("ARGENTOR_AUTH_KEYS", "{}", "expected a list of tables, in JSON"),
        ("ARGENTOR_AUTH_KEYS", "", "expected a list of tables, in JSON"),
        ("ARGENTOR_PLANS", "[]", "plans (ARGENTOR_PLANS) is '[]': expected a table of tables, in JSON"),
        ("ARGENTOR_PLANS_PRO", "{}", "the nearest is ARGENTOR_PLANS"),
    ],
)
def test_rows_that_are_not_json_are_refused(tmp_path: Path, name: str, text: str, words: str):
    message = refusal(tmp_path, **{name: text})
    assert words in message
    assert KEY not in message


@pytest.mark.parametrize(
    "text",
    [
        "[auth]\ntrusted_proxies = ['10.0.0.1', '10.0.0.0/8', '::1', 'fd00::/8', 'unix']\n",
        "[otel]\nendpoint = 'http://127.0.0.1:4318/v1'\n",
        "[shutdown]\ndrain_s = 30\ntotal_s = 30\n",
        "[plans]\n",
        "[plans.pro]\nrequests_per_minute = 0\n",
        "[[auth.keys]]\nname='a'\nkey='a'\nscopes=['admin', '*', 'x_y-1:write']\n",
    ],
)
def test_what_can_be_is_taken(tmp_path: Path, text: str):
    check(from_toml(tmp_path, text))


def test_rows_made_in_code_are_checked_as_those_of_a_file():
    with pytest.raises(ConfigError, match=r"auth.keys\[0\].scopes \(given in code\) is \('x',\)"):
        check(Config(auth=Auth(keys=(Key("a", key=Secret(KEY), scopes=("x",)),))))
    with pytest.raises(ConfigError, match=r"auth.keys\[0\].expires_at \(given in code\)"):
        check(Config(auth=Auth(keys=(Key("a", key=Secret(KEY), expires_at=datetime(2030, 1, 1)),))))  # noqa: DTZ001  without a zone is the point
    with pytest.raises(ConfigError, match=r"plans.pro.runs \(given in code\) is 0"):
        check(Config(plans={"pro": Plan(runs=0)}))


def test_rows_show_as_toml_without_their_secrets(tmp_path: Path):
    found = from_toml(tmp_path, WHOLE)
    text = effective(found)
    assert KEY not in text + repr(found) + str(found) + repr(found.auth.held)
    assert DIGEST not in text + repr(found)
    document = tomllib.loads(text)
    assert document["plans"] == {"pro": {"requests_per_minute": 600, "runs": 5}}
    assert document["auth"]["keys"][1] == {"name": "ops", "sha256": "***", "scopes": ["*"], "tenant": "default"}
    assert document["auth"]["keys"][0]["expires_at"] == NEVER


FIELDS = st.sampled_from(["name", "key", "sha256", "scopes", "tenant", "plan", "expires_at", "nope"])
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from([DIGEST, "2030-01-01T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(FIELDS, inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(FIELDS, ODD, max_size=5), max_size=3) | ODD, ODD)
def test_any_rows_are_taken_or_refused_in_words(rows: object, plans: object):
    environ = {"ARGENTOR_AUTH_KEYS": json.dumps(rows), "ARGENTOR_PLANS": json.dumps(plans)}
    with suppress(ConfigError):
        found = load(environ, HERE)
        check(found)
        tomllib.loads(effective(found))
