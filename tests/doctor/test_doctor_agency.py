"""`argentor_asgi.doctor.agency`: an agent that cannot be, servers that are not there, settings that do nothing."""

import logging
import sys
from pathlib import Path

import pytest

from argentor_asgi.config import (
    Agent,
    Capabilities,
    Config,
    Fallback,
    GuardrailRule,
    Guardrails,
    Limits,
    Llm,
    Mcp,
    McpServer,
    Plan,
    Price,
    Secret,
)
from argentor_asgi.doctor import examine
from argentor_asgi.doctor.agency import agent, unmatched, without_effect
from argentor_asgi.doctor.finding import Finding

DEMO = (sys.executable, str(Path(__file__).parents[1] / "mcp_demo_server.py"))
HOSTED = Llm("openai", model="m", api_key=Secret("k"), temperature=0.0)
RULE = GuardrailRule("names", words=("Bluebird",))


def test_the_skills_of_an_agent_that_is_fine_are_counted():
    (found,) = agent(Config(agent=Agent(skills=("regex", "agent_delegate"))))
    assert (found.level, found.subject, found.words) == ("ok", "agent", "has 19 skills")


def test_an_agent_that_could_not_start_fails_with_the_reason_of_the_start():
    rule = GuardrailRule("odd", pattern="(")
    (found,) = agent(Config(guardrails=Guardrails(enabled=True, rules=(rule,))))
    assert (found.level, found.subject, "guardrails.rules[0] (`odd`)" in found.words) == ("fail", "agent", True)


def test_a_model_that_cannot_be_asked_is_told_once(tmp_path: Path):
    environ = {"ARGENTOR_LLM_PROVIDER": "openai", "ARGENTOR_LLM_MODEL": "m", "OPENAI_API_KEY": "k\tk"}
    failed = [found for found in examine(environ, tmp_path, []) if found.level == "fail"]
    assert [(found.subject, "llm.api_key" in found.words) for found in failed] == [("agent", True)]


def test_a_typing_error_in_a_pattern_is_a_warning_since_it_asks_nobody():
    asked = Agent(approval_skills=("calcuator", "memory_*"), deny_skills=("hash",), allow_skills=("no*",))
    warned = [found.words for found in agent(Config(agent=asked)) if found.level == "warn"]
    assert warned == [
        "agent.allow_skills has 'no*', which no skill that is known here is called",
        "agent.approval_skills has 'calcuator', which no skill that is known here is called",
    ]


def test_patterns_are_held_against_the_skills_that_there_are():
    asked = Config(agent=Agent(allow_skills=("a", "b*", "*"), deny_skills=("c",)))
    assert [words.split(",")[0] for words in unmatched(asked, ["a", "cd"])] == [
        "agent.allow_skills has 'b*'",
        "agent.deny_skills has 'c'",
    ]


def test_patterns_of_skills_whose_server_is_missing_are_left_alone():
    asked = Config(agent=Agent(deny_skills=("my_server_x", "my*", "*", "my_serve", "other_*")))
    found = unmatched(asked, ["a"], ["my server"])
    assert [words.split(",")[0] for words in found] == [
        "agent.deny_skills has 'my_serve'",
        "agent.deny_skills has 'other_*'",
    ]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(agent=Agent(permission_mode="strict")), "no skill is ever called"),
        (Config(agent=Agent(permission_mode="custom")), "calls no skill"),
        (Config(agent=Agent(run_cost=1.0)), "llm.prices has none of builtin"),
        (Config(llm=HOSTED, limits=Limits(cost_per_day=1.0)), "llm.prices has none of m"),
        (Config(llm=HOSTED, plans={"small": Plan(cost_per_day=1.0)}), "llm.prices has none of m"),
        (Config(llm=Llm(cache_entries=5, temperature=0.0)), "llm.cache_entries keeps nothing"),
        (Config(llm=Llm("openai", model="m", api_key=Secret("k"), cache_entries=5)), "llm.cache_entries keeps nothing"),
        (Config(guardrails=Guardrails(rules=(RULE,))), "guardrails.enabled=true"),
        (Config(llm=HOSTED, guardrails=Guardrails(enabled=False, rules=(RULE,))), "guardrails.enabled=true"),
        (Config(capabilities=Capabilities(file_read=("/no/such/place",))), "'/no/such/place', which does not exist"),
    ],
)
def test_a_setting_that_does_nothing_is_said(config: Config, words: str):
    (found,) = without_effect(config)
    assert words in found


def test_of_settings_that_work_nothing_is_said(tmp_path: Path):
    llm = Llm(
        "openai",
        model="m",
        api_key=Secret("k"),
        temperature=0.0,
        cache_entries=5,
        fallbacks=(Fallback("ollama", "n"),),
        prices=(Price("m", 1.0, 1.0), Price("n", 0.0, 0.0)),
    )
    granted = Capabilities(file_read=(str(tmp_path),))
    works = Agent(permission_mode="strict", allow_skills=("hash",), run_cost=1.0)
    guarded = Guardrails(rules=(RULE,))
    assert list(without_effect(Config(llm=llm, agent=works, guardrails=guarded, capabilities=granted))) == []


@pytest.mark.slow
def test_mcp_servers_are_connected_to_and_their_skills_known(caplog: pytest.LogCaptureFixture):
    servers = (McpServer("demo", command=DEMO), McpServer("gone", command=("no-such-program-anywhere",)))
    asked = Agent(deny_skills=("demo_add", "gone_*"), approval_skills=("demo_ad",))
    found = list(agent(Config(agent=asked, mcp=Mcp(servers))))
    assert [(each.level, each.subject) for each in found[:3]] == [("ok", "agent"), ("ok", "mcp"), ("fail", "mcp")]
    assert found[1].words == "demo is connected"
    assert found[2].words.startswith("gone does not answer: ")
    assert "No such file" in found[2].words
    words = "agent.approval_skills has 'demo_ad', which no skill that is known here is called"
    assert found[3:] == [Finding("warn", "agent", words)]
    assert caplog.text == ""
    assert logging.getLogger("argentor.mcp").propagate
