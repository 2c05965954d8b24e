"""The settings of hosted models and of what the agent may do: what is taken, and what is half set."""

from pathlib import Path

import pytest

from argentor_asgi.config import Config, Fallback, Llm, Mcp, McpServer, Price, Secret, check, effective, load
from argentor_asgi.errors import ConfigError
from argentor_asgi.providers import PROVIDERS

KEY = "sk-very-secret"


def from_toml(directory: Path, text: str, **environ: str) -> Config:
    (directory / "argentor.toml").write_text(text)
    return load(environ, directory)


def refusal(directory: Path, text: str = "", **environ: str) -> str:
    with pytest.raises(ConfigError) as raised:
        from_toml(directory, text, **environ)
    assert KEY not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_every_provider_is_taken_by_each_of_its_names(tmp_path: Path, name: str):
    found = load({"ARGENTOR_LLM_PROVIDER": name, "ARGENTOR_LLM_MODEL": "m", "ARGENTOR_LLM_API_KEY": KEY}, tmp_path)
    assert found.llm.api_key == Secret(KEY)


@pytest.mark.parametrize("name", ["nope", "cohere", "OpenAI", ""])
def test_another_provider_is_refused_with_those_that_there_are(tmp_path: Path, name: str):
    message = refusal(tmp_path, ARGENTOR_LLM_PROVIDER=name)
    assert "llm.provider" in message
    assert "openrouter" in message


def test_a_hosted_model_needs_its_name(tmp_path: Path):
    assert "llm.model is missing" in refusal(tmp_path, ARGENTOR_LLM_PROVIDER="openai", ARGENTOR_LLM_API_KEY=KEY)


@pytest.mark.parametrize(
    ("provider", "variable"),
    [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY"), ("azure", "AZURE_OPENAI_API_KEY")],
)
def test_a_hosted_model_needs_a_key_and_its_providers_own_variable_is_read(
    tmp_path: Path, provider: str, variable: str
):
    asked = {"ARGENTOR_LLM_PROVIDER": provider, "ARGENTOR_LLM_MODEL": "m"}
    message = refusal(tmp_path, **asked)
    assert f"llm.api_key is missing: set it, or {variable}" in message
    found = load({**asked, variable: f" {KEY}\n"}, tmp_path)
    assert found.llm.api_key == Secret(KEY)
    assert found.sources["llm.api_key"] == variable
    assert load({**asked, variable: "other", "ARGENTOR_LLM_API_KEY": KEY}, tmp_path).llm.api_key == Secret(KEY)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("ARGENTOR_LLM_TEMPERATURE", "3", "expected a number, at least 0, at most 2"),
        ("ARGENTOR_AGENT_RUN_COST", "-1", "expected a number, at least 0, at most"),
        ("ARGENTOR_AGENT_SKILLS", "shell", "is ['shell']; expected a list of: http_fetch, file_read, regex, agent_"),
        ("ARGENTOR_AGENT_ALLOW_SKILLS", "\udcff", "expected a list of texts"),
    ],
)
def test_a_wrong_value_is_answered_with_those_that_are_right(tmp_path: Path, variable: str, value: str, expected: str):
    assert expected in refusal(tmp_path, **{variable: value})


def test_a_local_server_that_listens_everywhere_is_asked_on_this_machine(tmp_path: Path):
    asked = {"ARGENTOR_LLM_PROVIDER": "ollama", "ARGENTOR_LLM_MODEL": "m"}
    found = load({**asked, "OLLAMA_HOST": "0.0.0.0:11434"}, tmp_path)
    assert found.llm.base_url == "http://127.0.0.1:11434"


def test_a_local_server_needs_no_key_and_says_itself_where_it_is(tmp_path: Path):
    asked = {"ARGENTOR_LLM_PROVIDER": "ollama", "ARGENTOR_LLM_MODEL": "m"}
    assert load(asked, tmp_path).llm.api_key is None
    found = load({**asked, "OLLAMA_HOST": "127.0.0.1:9999"}, tmp_path)
    assert (found.llm.base_url, found.sources["llm.base_url"]) == ("http://127.0.0.1:9999", "OLLAMA_HOST")
    assert load({**asked, "OLLAMA_HOST": "127.0.0.1"}, tmp_path).llm.base_url == "http://127.0.0.1:11434"
    assert load({**asked, "OLLAMA_HOST": "[::1]"}, tmp_path).llm.base_url == "http://[::1]:11434"
    assert load({**asked, "OLLAMA_HOST": "https://models.example"}, tmp_path).llm.base_url == "https://models.example"


def test_the_built_in_model_reads_nobodys_key(tmp_path: Path):
    assert load({"OPENAI_API_KEY": KEY}, tmp_path).llm == Llm()


@pytest.mark.parametrize("setting", ["model = 'm'", f"api_key = '{KEY}'", "base_url = 'http://x'"])
def test_settings_of_a_hosted_model_without_its_provider_are_refused(tmp_path: Path, setting: str):
    assert "llm.provider is `builtin`" in refusal(tmp_path, f"[llm]\n{setting}\n")


def test_fallbacks_are_tables_with_keys_of_their_own_or_of_their_provider(tmp_path: Path):
    text = f"""
    [llm]
    provider = "openai"
    model = "m"
    api_key = "{KEY}"
    [[llm.fallbacks]]
    provider = "claude"
    model = "c"
    [[llm.fallbacks]]
    provider = "vllm"
    model = "v"
    base_url = "http://10.0.0.1:8000"
    """
    found = from_toml(tmp_path, text, ANTHROPIC_API_KEY="their-own")
    assert found.llm.fallbacks == (
        Fallback("claude", "c", Secret("their-own")),
        Fallback("vllm", "v", None, "http://10.0.0.1:8000"),
    )
    assert "llm.fallbacks[0].api_key is missing" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("provider = 'builtin'\nmodel = 'm'", "a fallback is a hosted model"),
        ("provider = 'nope'\nmodel = 'm'", "llm.fallbacks[0].provider"),
        ("provider = 'openai'", "llm.fallbacks[0].model (argentor.toml) is missing"),
        ("provider = 'openai'\nmodel = 'm'\nbase_url = 'ftp://x'", "llm.fallbacks[0].base_url"),
        ("provider = 'openai'\nmodel = 'm'\nmodle = 'x'", "the nearest is model"),
    ],
)
def test_a_wrong_fallback_is_named_by_its_place(tmp_path: Path, row: str, words: str):
    message = refusal(tmp_path, f"[llm]\nprovider='openai'\nmodel='m'\napi_key='{KEY}'\n[[llm.fallbacks]]\n{row}\n")
    assert words in message.replace(f"{tmp_path / 'argentor.toml'!s}", "argentor.toml")


def test_prices_are_tables_in_the_file_and_json_in_the_environment(tmp_path: Path):
    found = load({"ARGENTOR_LLM_PRICES": '[{"model":"m/x-1","input":2.5,"output":10}]'}, tmp_path)
    assert found.llm.prices == (Price("m/x-1", 2.5, 10.0),)
    assert "llm.prices[0].input" in refusal(tmp_path, ARGENTOR_LLM_PRICES='[{"model":"m","input":-1,"output":1}]')


def test_a_skill_that_could_reach_nothing_is_a_start_up_error(tmp_path: Path):
    assert "capabilities.network_access" in refusal(tmp_path, "[agent]\nskills = ['http_fetch']\n")
    assert "capabilities.file_read" in refusal(tmp_path, "[agent]\nskills = ['file_read']\n")
    found = from_toml(tmp_path, "[agent]\nskills = ['http_fetch']\n[capabilities]\nnetwork_access = ['.example.com']\n")
    assert found.capabilities.network_access == (".example.com",)


@pytest.mark.parametrize("row", ["", "pattern = 'x'\nwords = ['y']"])
def test_a_guardrail_has_a_pattern_or_words(tmp_path: Path, row: str):
    message = refusal(tmp_path, f"[[guardrails.rules]]\nname = 'n'\n{row}\n")
    assert "guardrails.rules[0]: exactly one of `pattern` and `words`" in message


@pytest.mark.parametrize("row", ["", "url = 'http://x'\ncommand = ['y']"])
def test_an_mcp_server_has_a_url_or_a_command(tmp_path: Path, row: str):
    message = refusal(tmp_path, f"[[mcp.servers]]\nname = 'n'\n{row}\n")
    assert "mcp.servers[0]: exactly one of `url` and `command`" in message


def test_no_secret_shows_where_the_configuration_is_shown():
    found = Config(
        llm=Llm("openai", "m", Secret(KEY), fallbacks=(Fallback("groq", "g", Secret(KEY)),)),
        mcp=Mcp((McpServer("n", "http://x", headers={"authorization": Secret(KEY)}, env={"T": Secret(KEY)}),)),
    )
    check(found)
    assert KEY not in effective(found)
    assert KEY not in repr(found)
    assert "authorization" in effective(found)


def test_a_relative_path_grants_nothing_and_is_refused(tmp_path: Path):
    assert "'docs', which is relative" in refusal(tmp_path, "[capabilities]\nfile_write = ['/a', 'docs']\n")
