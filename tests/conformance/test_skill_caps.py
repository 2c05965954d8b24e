"""Skills as a model calls them, with whatever it likes: each call ends in time, in words, and within its size.

agent.md 8.11 and 1.10 D12, for the built-in skills, those that are switched on, and those of an MCP server alike.
"""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from doors import STREAM, streamed
from hosted_env import hosted_env, hosted_house
from hosted_models import openai_chunk
from mcp_house import DEMO, process
from processes import server
from raw_server import raw_server
from recording import client

from argentor_asgi.agent.skills import OUTPUT_BYTES
from argentor_asgi.config import Agent, Capabilities, Guardrails, Mcp

pytestmark = pytest.mark.slow

PATIENCE_S = 10.0
START_S = 30.0
MEBI = 1024 * 1024
MANY = 100_000
SKILLS = ("http_fetch", "file_read", "regex", "agent_delegate")
LINES = "\n".join(f"line {number * 7919 % 10007}" for number in range(10_000))
WORDS = "One two. " * 27_000


def evaluate(expression):
    return "calculator", {"operation": "evaluate", "expression": expression}


ADVERSE = {
    "powers": evaluate("9**9**9**9"),
    "factorial": evaluate("factorial(10**9)"),
    "parentheses": evaluate("(" * 990 + "1" + ")" * 990),
    "minus": evaluate("-" * 1990 + "1"),
    "sums": evaluate("1+" * 990 + "1"),
    "digits": evaluate("9" * MANY),
    "brackets": ("json_query", {"operation": "get", "data": "[" * 250_000, "path": "0"}),
    "long path": ("json_query", {"operation": "get", "data": {"a": 1}, "path": "a." * MANY}),
    "two long texts": ("diff", {"operation": "word_diff", "old": LINES, "new": "\n".join(reversed(LINES.split("\n")))}),
    "cells": ("csv_processor", {"operation": "sort", "data": "a,b\n" + "1,2\n" * 50_000, "column": "a"}),
    "quotes": ("csv_processor", {"operation": "parse", "data": '"' * MANY}),
    "sentences": ("summarizer", {"operation": "summarize", "text": WORDS}),
    "text": ("text_transform", {"operation": "title_case", "text": WORDS}),
    "replacing": ("text_transform", {"operation": "replace", "text": "a" * MANY, "find": "a", "replacement": "b" * 9}),
    "mails": ("data_validator", {"operation": "email", "value": "a@" + "a." * MANY}),
    "decoded": ("encode_decode", {"operation": "base64_decode", "input": "A" * 240_000}),
    "uuids": ("uuid_generator", {"operation": "generate_bulk", "count": 10**9}),
    "years": ("datetime", {"operation": "add", "datetime": "2026-01-01", "amount": 10**18, "unit": "days"}),
    "backtracking": ("regex", {"operation": "match", "pattern": "(a|a)*(a+)+$", "text": "a" * 5000 + "b"}),
    "repeats": ("regex", {"operation": "match", "pattern": "((a{0,999}){0,999}){0,999}", "text": "a" * 999}),
    "all matches": ("regex", {"operation": "find_all", "pattern": "", "text": "a" * MANY, "limit": 1000}),
    "a long file": ("file_read", {"path": "{directory}/long.txt"}),
    "a file of zeros": ("file_read", {"path": "/dev/zero"}),
    "outside": ("file_read", {"path": "{directory}/../../etc/passwd"}),
    "a note": ("memory_store", {"content": "x" * 250_000}),
    "looking for much": ("memory_search", {"query": "x " * MANY}),
    "a long answer of a server": ("demo_big", {"size": 3_000_000}),
    "an answer that never comes": ("demo_slow", {"path": "{directory}/told"}),
    "a server that dies": ("demo_die", {}),
}
"""What a model may call, by the words that make it do so."""


def called(name, arguments):
    call = {"index": 0, "id": "c1", "function": {"name": name, "arguments": json.dumps(arguments)}}
    return [openai_chunk({"tool_calls": [call]}), openai_chunk({}, "tool_calls"), "[DONE]"]


@asynccontextmanager
async def calling(directory):
    """Hold a gateway with every skill that there is; yield what has the model call what it is told to."""

    async def model(asked, line):
        said = asked.json()["messages"][-1]
        if said["role"] == "user":
            name, arguments = ADVERSE[said["content"]] if said["content"] in ADVERSE else (said["content"], STRANGE)
            await line.events(*called(name, json.loads(json.dumps(arguments).replace("{directory}", str(directory)))))
        else:
            await line.events(openai_chunk({"content": "seen"}, "stop"), "[DONE]")

    (directory / "long.txt").write_text("ñ" * 10 * MEBI)
    tables = {
        "agent": Agent(skills=SKILLS),
        "capabilities": Capabilities(file_read=(str(directory), "/dev"), network_access=("*",)),
        "guardrails": Guardrails(enabled=False),
        "mcp": Mcp(servers=(process(timeout_s=2.0),)),
    }
    async with raw_server(model) as raw, hosted_house(raw.url, **tables) as house:

        async def result(words):
            async with asyncio.timeout(PATIENCE_S):
                heard = streamed(await house.post(STREAM, {"input": words}))
            assert (heard.last["type"], heard.last["text"]) == ("done", "seen")
            [told] = heard.of("tool_result")
            assert len(told["content"].encode()) <= OUTPUT_BYTES
            assert "the gateway's log says why" not in told["content"], "that is a bug"
            assert raw.asked[-1].json()["messages"][-1]["content"] == told["content"]
            return told

        await until_offered(lambda: house.get("/api/v1/skills"), "demo_add")
        yield house, result


async def until_offered(skills, *names):
    """Ask until these skills are there, which come from processes that take their time to start."""
    async with asyncio.timeout(START_S):
        while not {*names} <= {each["name"] for each in (await skills()).json()}:  # noqa: ASYNC110  other processes make it so
            await asyncio.sleep(0.02)


STRANGE = {"surprise": 1, **{name: [] for name in ("a", "text", "path", "size", "name")}}
"""Arguments that no skill takes."""
WITHOUT_ARGUMENTS = {f"demo_{name}" for name in ("fail", "structured", "picture", "pid", "die", "grow")}
"""The tools whose schema, which is their server's, takes anything."""


async def test_whatever_a_model_calls_a_skill_with_ends_in_time_and_within_its_size(tmp_path, subtests):
    async with calling(tmp_path) as (_, result):
        told = {}
        for words in ADVERSE:
            with subtests.test(words):
                told[words] = await result(words)
    read = json.loads(told["a long file"]["content"])
    assert 0 < len(read["text"].encode()) < OUTPUT_BYTES, read.keys()
    long = told["a long answer of a server"]
    assert (long["is_error"], long["truncated"], len(long["content"])) == (False, True, OUTPUT_BYTES)
    assert "[cut: 3000000 bytes" in long["content"][-80:]
    late = told["an answer that never comes"]
    assert (late["is_error"], "did not answer within 2 s" in late["content"]) == (True, True)
    for words in ("powers", "factorial", "parentheses", "backtracking", "a file of zeros", "outside", "uuids"):
        assert told[words]["is_error"], told[words]


async def test_arguments_are_held_against_the_schema_of_every_skill_before_it_runs(tmp_path, subtests):
    async with calling(tmp_path) as (house, result):
        names = {each["name"] for each in (await house.get("/api/v1/skills")).json()}
        assert {*SKILLS, "calculator", "demo_add", "demo_slow"} <= names
        for name in sorted(names - WITHOUT_ARGUMENTS):
            with subtests.test(name):
                told = await result(name)
                assert told["is_error"]
                assert told["content"].startswith(f"argument validation failed for {name}: ")
    assert not (tmp_path / "told").exists()


async def test_a_model_is_offered_the_same_skills_in_the_same_order_by_every_process(tmp_path):
    """agent.md 1.10 D21: an order that changes spoils the provider's cache of prompts; skills of MCP servers too."""

    async def model(_, line):
        await line.events(openai_chunk({"content": "hello"}, "stop"), "[DONE]")

    async def offered(number):
        (directory := tmp_path / str(number)).mkdir()
        servers = json.dumps([{"name": "demo", "command": DEMO}])
        env = hosted_env(raw.url, agent_skills=",".join(SKILLS), mcp_servers=servers, **GRANTED)
        env |= {"PYTHONHASHSEED": str(number)}
        async with server("serve", cwd=directory, env=env) as running, client(running.port) as http:
            await until_offered(lambda: http.get("/api/v1/skills"), "demo_add")
            assert (await http.post("/api/v1/agent/chat", json={"message": f"hi {number}"})).is_success

    async with raw_server(model) as raw:
        await asyncio.gather(*map(offered, range(1, 3)))
    first, second = (asked.body for asked in raw.asked)
    start = b'"tools":'
    assert first.partition(start)[2] == second.partition(start)[2] != b""
    names = [each["function"]["name"] for each in json.loads(first)["tools"]]
    assert names == sorted(names)
    assert {"demo_add", "demo_variable", "http_fetch", "agent_delegate"} <= set(names)


GRANTED = {"capabilities_file_read": "/srv", "capabilities_network_access": "*"}
