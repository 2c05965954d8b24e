"""What an agent is made of, by its configuration."""

import pytest
from scripted_backend import ScriptedBackend

from argentor_asgi.agent.builtin.backend import BuiltinBackend
from argentor_asgi.agent.response_cache import CachedBackend
from argentor_asgi.assembly import assemble
from argentor_asgi.config import (
    Agent,
    Capabilities,
    Config,
    GuardrailRule,
    Guardrails,
    Llm,
    Mcp,
    McpServer,
    Price,
    Secret,
    Storage,
)
from argentor_asgi.equipment import equip
from argentor_asgi.errors import ConfigError
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.sessions.memory import MemoryStore

HOSTED = Llm("openai", "gpt-x", Secret("k"), base_url="http://127.0.0.1:9")


def made(*, model=None, skills=(), **tables):
    config = Config(storage=Storage("memory://"), **tables)
    store = MemoryStore(clock=SystemClock())
    return assemble(config, equip(config, version="0"), store, agent=model, skills=skills, permissions=None)


def test_without_a_provider_the_built_in_model_answers_and_nothing_is_probed_or_looked_at():
    found = made()
    assert isinstance(found.backend, BuiltinBackend)
    assert (found.probes, found.guardrails, found.mcp) == ({}, None, None)


def test_a_hosted_model_is_probed_and_its_texts_are_looked_at():
    found = made(llm=HOSTED)
    assert (found.backend.name, found.backend.model) == ("openai", "gpt-x")
    assert list(found.probes) == ["llm"]
    assert found.guardrails is not None


@pytest.mark.parametrize(("llm", "enabled"), [(HOSTED, False), (Llm(), True)])
def test_guardrails_are_as_configured_where_they_are(llm, enabled):
    assert (made(llm=llm, guardrails=Guardrails(enabled=enabled)).guardrails is not None) is enabled


def test_a_rule_of_ones_own_turns_them_on():
    rules = (GuardrailRule("names", words=("acme",)),)
    assert made(guardrails=Guardrails(rules=rules)).guardrails is not None


def test_a_cache_stands_before_the_model_only_where_it_may_keep_something():
    cached = Llm("openai", "gpt-x", Secret("k"), temperature=0.0, cache_entries=5)
    assert isinstance(made(llm=cached).backend, CachedBackend)
    assert not isinstance(made(llm=HOSTED).backend, CachedBackend)


def test_the_embedders_model_comes_before_the_configured_one():
    mine = ScriptedBackend()
    assert made(model=mine).backend is mine


def test_further_skills_are_there_when_they_are_named():
    names = {each.name for each in made().skills.descriptors()}
    assert names & {"agent_delegate", "regex", "http_fetch", "file_read"} == set()
    assert "human_approval" in names
    agent = Agent(skills=("agent_delegate", "regex", "http_fetch", "file_read"))
    grants = Capabilities(network_access=("example.com",), file_read=("/srv",))
    more = {each.name for each in made(agent=agent, capabilities=grants).skills.descriptors()}
    assert more - names == {"agent_delegate", "regex", "http_fetch", "file_read"}


@pytest.mark.slow
def test_mcp_servers_are_a_source_of_skills():
    found = made(mcp=Mcp((McpServer("demo", "http://127.0.0.1:9/mcp"),)))
    assert found.mcp is not None
    assert found.mcp.connected == {"demo": False}


def test_a_model_with_two_prices_cannot_be():

    with pytest.raises(ConfigError, match="has a price already"):
        made(llm=Llm(prices=(Price("m", 1.0, 1.0), Price("m", 2.0, 2.0))))
