import re
import tomllib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from argentor_asgi.config import Auth, Config, Limits, Secret, Storage, check, effective, load, options, table
from argentor_asgi.errors import ConfigError
from argentor_asgi.sources import FILE_BYTES, LATER_TABLES

KEY = "ak_5up3r-s3cr3t-value"
HERE = Path(__file__).parent


def from_toml(directory: Path, text: str, **environ: str) -> Config:
    (directory / "argentor.toml").write_text(text, encoding="utf-8")
    return load(environ, directory)


def refusal(directory: Path, text: str = "", **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        from_toml(directory, text, **environ)
    return str(caught.value)


# --- where values come from --------------------------------------------------------------------------------------


def test_nothing_configured_is_the_defaults(tmp_path: Path):
    assert load({}, tmp_path) == Config()


def test_the_defaults_pass_the_check():
    check(Config())


def test_a_file_in_the_directory_is_read(tmp_path: Path):
    text = 'public_url = "https://gate.example"\n[limits]\nruns = 7\n[auth]\napi_keys = ["ops:abc"]\n'
    found = from_toml(tmp_path, text)
    assert (found.public_url, found.limits.runs, found.auth.api_keys[0].reveal()) == (
        "https://gate.example",
        7,
        "ops:abc",
    )


def test_a_named_file_is_read_instead(tmp_path: Path):
    (tmp_path / "other.toml").write_text("[limits]\nruns = 9\n")
    assert from_toml(tmp_path, "[limits]\nruns = 7\n", ARGENTOR_CONFIG="other.toml").limits.runs == 9


@pytest.mark.parametrize("name", ["absent.toml", "", "a\0b"])
def test_a_named_file_that_cannot_be_read_is_an_error(tmp_path: Path, name: str):
    with pytest.raises(ConfigError):
        load({"ARGENTOR_CONFIG": name}, tmp_path)


def test_the_environment_wins_over_the_file(tmp_path: Path):
    assert from_toml(tmp_path, "[limits]\nruns = 7\n", ARGENTOR_LIMITS_RUNS="8").limits.runs == 8


def test_every_option_has_an_environment_variable_named_by_one_rule():
    for option in options():
        assert option.env == "ARGENTOR_" + option.name.replace(".", "_").upper()


def test_a_table_is_json_in_the_environment_and_a_field_wins_over_it(tmp_path: Path):
    found = load({"ARGENTOR_LIMITS": '{"runs": 5, "connections": 6}', "ARGENTOR_LIMITS_RUNS": "7"}, tmp_path)
    assert (found.limits.runs, found.limits.connections) == (7, 6)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"nope": 1}', '{"runs": "5"}'])
def test_a_table_that_is_not_the_right_json_is_an_error(tmp_path: Path, text: str):
    assert "ARGENTOR_LIMITS" in refusal(tmp_path, ARGENTOR_LIMITS=text) or "limits." in refusal(
        tmp_path, ARGENTOR_LIMITS=text
    )


def test_a_list_is_comma_separated_in_the_environment(tmp_path: Path):
    found = load({"ARGENTOR_AUTH_ALLOWED_ORIGINS": "https://a.example, http://b.example:81"}, tmp_path)
    assert found.auth.allowed_origins == ("https://a.example", "http://b.example:81")


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_value_may_come_from_a_file(tmp_path: Path, ending: str):
    (tmp_path / "keys").write_text(f"ops:{KEY}{ending}", newline="")
    found = load({"ARGENTOR_AUTH_API_KEYS_FILE": "keys"}, tmp_path)
    assert [key.reveal() for key in found.auth.api_keys] == [f"ops:{KEY}"]


def test_only_one_trailing_newline_of_such_a_file_is_dropped(tmp_path: Path):
    (tmp_path / "prompt").write_text("Be brief.\n\n")
    assert load({"ARGENTOR_AGENT_SYSTEM_PROMPT_FILE": "prompt"}, tmp_path).agent.system_prompt == "Be brief.\n"


def test_a_file_for_a_value_that_is_missing_is_an_error(tmp_path: Path):
    message = refusal(tmp_path, ARGENTOR_AUTH_API_KEYS_FILE="absent")
    assert message == f"ARGENTOR_AUTH_API_KEYS_FILE: '{tmp_path}/absent' cannot be read: No such file or directory"


def test_a_value_given_both_ways_is_an_error(tmp_path: Path):
    assert "both" in refusal(tmp_path, ARGENTOR_LIMITS_RUNS="1", ARGENTOR_LIMITS_RUNS_FILE="x")


def test_a_file_at_the_bound_is_read_and_one_byte_more_refused(tmp_path: Path):
    found = from_toml(tmp_path, "#" * FILE_BYTES)
    assert found == Config()
    assert "larger than" in refusal(tmp_path, "#" * (FILE_BYTES + 1))


def test_variables_in_the_texts_of_the_file_are_expanded(tmp_path: Path):
    found = from_toml(tmp_path, '[auth]\napi_keys = ["ops:${MY_KEY}"]\n', MY_KEY=KEY)
    assert found.auth.api_keys[0].reveal() == f"ops:{KEY}"


@pytest.mark.parametrize("reference", ["${MY_KEY}", "${}", "${MY_KEY:-none}"])
def test_an_unset_variable_is_an_error(tmp_path: Path, reference: str):
    assert "is not set" in refusal(tmp_path, f'[auth]\napi_keys = ["{reference}"]\n')


def test_a_variable_set_to_nothing_makes_an_empty_key_and_that_is_an_error(tmp_path: Path):
    assert "empty" in refusal(tmp_path, '[auth]\napi_keys = ["${MY_KEY}"]\n', MY_KEY="")


def test_variables_of_a_kubernetes_service_link_are_nobodys_settings(tmp_path: Path):
    environ = {
        "ARGENTOR_SERVICE_HOST": "10.0.0.1",
        "ARGENTOR_SERVICE_PORT": "80",
        "ARGENTOR_SERVICE_PORT_HTTP": "80",
        "ARGENTOR_PORT": "tcp://10.0.0.1:80",
        "ARGENTOR_PORT_80_TCP": "tcp://10.0.0.1:80",
        "ARGENTOR_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert load(environ, tmp_path) == Config()


# --- what is refused ---------------------------------------------------------------------------------------------


def test_an_unknown_setting_is_answered_with_the_nearest(tmp_path: Path):
    message = refusal(tmp_path, "[limits]\nrunz = 1\n")
    assert message == "there is no setting 'limits.runz'; the nearest is limits.runs"


def test_an_unknown_table_is_answered_with_the_nearest(tmp_path: Path):
    assert "nearest is" in refusal(tmp_path, "[limit]\nruns = 1\n")


def test_an_unknown_variable_is_answered_with_the_nearest(tmp_path: Path):
    message = refusal(tmp_path, ARGENTOR_LIMIT_RUNS="1")
    assert message == "there is no setting 'ARGENTOR_LIMIT_RUNS'; the nearest is ARGENTOR_LIMITS_RUNS"


@pytest.mark.parametrize(
    "text",
    [
        "[[webhooks]]\nname = 'a'\n",
        "[sso]\nprotect_routes = true\n",
        "[backplane]\nurl = 'redis://x'\n",
        "[vault]\nkey = 'x'\n",
    ],
)
def test_a_setting_of_a_later_version_says_so(tmp_path: Path, text: str):
    assert "is not available in this version" in refusal(tmp_path, text)


@pytest.mark.parametrize("name", ["WEBHOOKS", "SSO_PROVIDERS", "VAULT_KEY_FILE"])
def test_a_variable_of_a_later_version_says_so(tmp_path: Path, name: str):
    message = refusal(tmp_path, **{f"ARGENTOR_{name}": KEY})
    assert message == f"ARGENTOR_{name} is not available in this version"


@pytest.mark.parametrize("name", sorted(LATER_TABLES))
def test_no_setting_is_both_there_and_of_a_later_version(name: str):
    assert name not in {option.name for option in options()}


def test_a_wrong_type_names_setting_source_value_and_what_is_expected(tmp_path: Path):
    message = refusal(tmp_path, ARGENTOR_LIMITS_RUNS="many")
    assert message == (
        "limits.runs (ARGENTOR_LIMITS_RUNS) is 'many'; expected a whole number, at least 1, at most 1000000"
    )


@pytest.mark.parametrize(
    "text",
    [
        "[limits]\nruns = 0\n",
        "[limits]\nruns = -1\n",
        "[limits]\nruns = 1000001\n",
        "[limits]\nruns = 1.5\n",
        "[limits]\nruns = '5'\n",
        "[limits]\nruns = true\n",
        f"[limits]\nruns = {2**70}\n",
        "[limits]\nbody_bytes = 0\n",
        "[limits]\nrequest_timeout_s = 0\n",
        "[limits]\nrequest_timeout_s = nan\n",
        "[limits]\nrequest_timeout_s = inf\n",
        "[shutdown]\ndrain_s = -0.1\n",
        "[auth]\nallow_anonymous = 1\n",
        "[auth]\nallow_anonymous = 'yes'\n",
        "[auth]\napi_keys = 'abc'\n",
        "[auth]\napi_keys = [1]\n",
        "[auth]\nallowed_origins = ['*']\n",
        "[auth]\nallowed_origins = ['null']\n",
        "[auth]\nallowed_origins = ['https://a.example/']\n",
        "[auth]\nallowed_origins = ['https://a.example:70000']\n",
        "[agent]\non_busy = 'later'\n",
        "[agent]\nsystem_prompt = 2020-01-01\n",
        "[log]\nlevel = 'loud'\n",
        "limits = 1\n",
        "public_url = 'gate.example'\n",
        "public_url = 'https://user:pass@gate.example'\n",
        "public_url = 'https://gate.example/?a=b'\n",
        "[storage]\nurl = 'sqlite://x.db'\n",
        "[storage]\nurl = 'sqlite:///'\n",
        "[storage]\nurl = 'sqlite:///:memory:'\n",
        "[storage]\nurl = 'sqlite:///a.db?mode=ro'\n",
        "[storage]\nurl = 'postgres://x'\n",
        "not toml",
        "[limits]\nruns = 1\nruns = 2\n",
        "a = " + "[" * 5000,
    ],
)
def test_a_value_out_of_type_or_range_is_refused(tmp_path: Path, text: str):
    refusal(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "[limits]\nruns = 1\n",
        "[limits]\nruns = 1000000\n",
        "[limits]\nrequest_timeout_s = 1\n",
        "[shutdown]\ndrain_s = 0\n",
        "public_url = 'https://gate.example:8443/base'\n",
        "[storage]\nurl = 'sqlite:////var/lib/argentor/argentor.db'\n",
        "[storage]\nurl = 'memory://'\n",
        "[auth]\nallowed_origins = ['http://[::1]:3000', 'chrome-extension://abcdef']\n",
    ],
)
def test_a_value_at_the_edge_of_its_range_is_taken(tmp_path: Path, text: str):
    check(from_toml(tmp_path, text))


def test_redis_storage_says_that_there_is_none_yet(tmp_path: Path):
    message = refusal(tmp_path, ARGENTOR_STORAGE_URL=f"redis://:{KEY}@host/0")
    assert "this version has no Redis yet" in message
    assert KEY not in message


def test_another_provider_is_answered_with_those_there_are(tmp_path: Path):
    message = refusal(tmp_path, ARGENTOR_LLM_PROVIDER="opnai")
    assert "is 'opnai': expected builtin or one of: claude, anthropic, openai" in message


@pytest.mark.parametrize(
    "entry",
    [
        "",
        " ",
        "nobody:",
        "anonymous:abc",
        "sha256:abc",
        "sha256:" + "0" * 64,
        "ops:sha256:",
        "ops:sha256:xyz",
        "a:b:sha256:" + "0" * 64,
        "a b",
        "ops:a\nb",
        "clé",
        "k" * 1025,
    ],
)
def test_an_entry_that_is_no_key_is_refused_without_showing_it(entry: str):
    with pytest.raises(ConfigError) as caught:
        check(replace(Config(), auth=Auth(api_keys=(Secret(entry),))))
    assert len(entry.strip()) < 2 or entry not in str(caught.value)


def test_two_keys_of_one_name_are_refused(tmp_path: Path):
    assert "two API keys are named `ops`" in refusal(tmp_path, ARGENTOR_AUTH_API_KEYS="ops:abc,ops:def")


def test_one_key_under_two_names_is_refused(tmp_path: Path):
    assert "two names" in refusal(tmp_path, ARGENTOR_AUTH_API_KEYS="ops:abc,dev:abc")


@pytest.mark.parametrize("text", ["", "a,", ",", "a,,b"])
def test_an_empty_key_in_the_list_is_refused(tmp_path: Path, text: str):
    assert "an API key is empty" in refusal(tmp_path, ARGENTOR_AUTH_API_KEYS=text)


def test_a_configuration_made_in_code_is_checked_too():
    with pytest.raises(ConfigError, match=r"limits.runs \(given in code\) is 0"):
        check(Config(limits=Limits(runs=0)))


@pytest.mark.parametrize(
    ("url", "path"),
    [("sqlite:///a.db", Path("a.db")), ("sqlite:////v/a.db", Path("/v/a.db")), ("memory://", None)],
)
def test_the_storage_url_names_a_file_or_memory(url: str, path: Path | None):
    assert Storage(url).path == path


# --- secrets -----------------------------------------------------------------------------------------------------


def test_a_secret_never_shows():
    secret = Secret(KEY)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r}", "%s" % secret, repr(Config(auth=Auth((secret,))))]  # noqa: UP031  the old format is one of the ways a secret gets out
    assert not any(KEY in text for text in shown)
    assert secret.reveal() == KEY


def test_secrets_compare_by_their_text():
    assert {Secret("a"), Secret("a")} == {Secret("a")} != {Secret("b")}


def test_the_effective_configuration_hides_secrets_and_says_where_values_come_from(tmp_path: Path):
    found = from_toml(tmp_path, "[limits]\nruns = 7\n", ARGENTOR_AUTH_API_KEYS=f"ops:{KEY}")
    text = effective(found)
    assert KEY not in text
    assert 'api_keys = ["***"]  # ARGENTOR_AUTH_API_KEYS' in text
    assert f"runs = 7  # {tmp_path}/argentor.toml" in text
    assert "connections = 10000  # default" in text


def test_the_effective_configuration_of_code_says_so():
    assert "runs = 5  # given in code" in effective(Config(limits=Limits(runs=5)))


def test_the_effective_configuration_is_toml():
    document = tomllib.loads(effective(Config(public_url="http://a.example")))
    assert document["public_url"] == "http://a.example"
    assert document["limits"]["runs"] == 1000


TEXTS = st.text(max_size=30)
NAMES = st.sampled_from(
    [name for option in options() for name in (option.env, f"{option.env}_FILE")]
    + ["ARGENTOR_CONFIG", "ARGENTOR_LIMITS", "ARGENTOR_AUTH", "ARGENTOR_SSO"]
)
ENVIRONMENTS = st.dictionaries(NAMES | TEXTS.map("ARGENTOR_".__add__) | TEXTS, TEXTS, max_size=4)
VALUES = st.one_of(
    TEXTS.map(lambda text: '"' + re.sub(r'[\\"\x00-\x1f\x7f\ud800-\udfff]', "", text) + '"'),
    st.integers().map(str),
    st.sampled_from(["nan", "-inf", "true", "[]", "{}", "[[1]]", "2020-01-01", "10:00:00", '["${X}"]', '"${X}"']),
)
LINES = st.tuples(st.sampled_from([option.name for option in options()] + ["x", "a2a.b", "limits"]), VALUES)
DOCUMENTS = st.lists(LINES.map(" = ".join), max_size=4).map("\n".join) | TEXTS


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ENVIRONMENTS, DOCUMENTS)
def test_loading_raises_nothing_but_a_configuration_error(tmp_path: Path, environ: dict[str, str], text: str):
    (tmp_path / "argentor.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(ConfigError):
        check(load(environ, tmp_path))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=12, max_size=40), st.sampled_from(["{}", "ops:{}", "ops:sha256:{}", "a,{}", "{},{}"]))
def test_no_error_and_no_view_shows_a_key(tmp_path: Path, key: str, shape: str):
    assume(key.strip(", ") not in effective(Config()))
    entry = shape.replace("{}", key)
    try:
        shown = effective(load({"ARGENTOR_AUTH_API_KEYS": entry}, tmp_path))
    except ConfigError as error:
        shown = str(error)
    assert key.strip(", ") not in shown or len(key.strip(", ")) < 12


# --- the README --------------------------------------------------------------------------------------------------


def test_every_option_has_a_meaning_and_a_valid_default():
    assert all(option.meaning for option in options())


def test_the_readme_has_the_table_of_settings():
    text = (HERE.parent / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- config -->\n(.*?)\n<!-- /config -->", text, re.DOTALL)
    assert found
    assert found[1].strip() == table()
