"""Skills from MCP servers that the gateway starts itself."""

import asyncio
import json
import logging
import subprocess
import sys

import pytest
from mcp_house import DEMO, OLD, Sourced, end, is_alive, process
from processes import eventually
from skillcalls import context_of

from argentor_asgi.agent.mcp.link import TOOLS
from argentor_asgi.agent.mcp.source import DESCRIPTION_CHARACTERS, McpSource
from argentor_asgi.agent.skills import SkillOutput, SkillRegistry, skill
from argentor_asgi.agent_sections import McpServer
from argentor_asgi.api_keys import Secret
from argentor_asgi.errors import ConfigError
from argentor_asgi.ops.clock import SystemClock

pytestmark = pytest.mark.slow

HANGS = "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); \
open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"


@skill("demo_echo", "A skill of the gateway's own.")
def own() -> str:
    return "own"


async def test_tools_are_skills_that_are_called_as_any_other(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "argentor.mcp")
    monkeypatch.setenv("ARGENTOR_SECRET", "not for others")
    server = process(env={"TOKEN": Secret("s3cret")}, read_only=("ad*", "slow"))
    async with Sourced(server, skills=(own,)) as sourced:
        await sourced.up()
        added = sourced.registry.get("demo_add").descriptor
        assert (added.description, added.effect, added.parallel_safe) == ("Add two numbers.", "read", True)
        assert (added.risk_level, added.required_capabilities) == ("low", ())
        written = sourced.registry.get("demo_fail").descriptor
        assert (written.effect, written.parallel_safe, written.risk_level) == ("write", False, "medium")

        assert await sourced.call("demo_add", a=1, b=2) == SkillOutput("3")
        assert json.loads((await sourced.call("demo_structured")).content) == {"x": 1, "y": [2, 3]}
        assert (await sourced.call("demo_picture")).content == "[an image of type image/png, 4 bytes, not shown]"
        failed = await sourced.call("demo_fail")
        assert failed.is_error
        assert "fail" in failed.content

        # A name that the gateway has already stays the gateway's.
        assert (await sourced.call("demo_echo")).content == "own"
        marked = next(name for name in sourced.names if name.startswith("demo_echo_"))
        assert (await sourced.call(marked, text="héllo\n")).content == "héllo\n"

        # agent.md 1.10 D12: arguments are checked, and what is said is bounded.
        wrong = await sourced.call("demo_add", a="x")
        assert wrong.is_error
        assert "argument validation failed for demo_add: /a: 'x' is not of type 'integer'" in wrong.content
        assert "'b' is a required property" in wrong.content
        big = await sourced.call("demo_big", size=300_000)
        assert big.truncated
        assert len(big.content) <= 256 * 1024

        # It sees what it was given of the environment, and nothing else of ours.
        assert (await sourced.call("demo_variable", name="ARGENTOR_SECRET")).content == "(none)"
        assert (await sourced.call("demo_variable", name="TOKEN")).content == "s3cret"
        assert (await sourced.call("demo_variable", name="PATH")).content != "(none)"
        await sourced.call("demo_mutter", text="I was told s3cret")
        await eventually(lambda: "MCP server demo: I was told ***" in caplog.messages)
        assert "s3cret" not in caplog.text


async def test_a_cancelled_call_is_cancelled_at_the_server(tmp_path):
    told = tmp_path / "told"
    async with Sourced(process()) as sourced:
        await sourced.up()
        call = asyncio.create_task(sourced.call("demo_slow", path=str(told)))
        await eventually(lambda: told.exists() and "begun" in told.read_text())
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await eventually(lambda: "cancelled" in told.read_text())
        assert (await sourced.call("demo_add", a=1, b=2)).content == "3"


async def test_a_server_that_dies_in_a_call_or_between_calls_is_started_again(tmp_path):
    told = tmp_path / "told"
    async with Sourced(process()) as sourced:
        await sourced.up()
        first = int((await sourced.call("demo_pid")).content)
        call = asyncio.create_task(sourced.call("demo_slow", path=str(told)))
        await eventually(told.exists)
        end(first)
        lost = await call
        assert lost.is_error
        assert "was lost before it answered" in lost.content
        await sourced.up()
        second = int((await sourced.call("demo_pid")).content)
        assert second != first

        end(second)
        await eventually(lambda: not sourced.source.connected["demo"])
        assert "demo_add" in sourced.names
        await sourced.up()
        assert (await sourced.call("demo_add", a=1, b=2)).content == "3"
        last = int((await sourced.call("demo_pid")).content)
    assert not is_alive(last)


async def test_a_server_that_hangs_stops_nobody_and_is_ended_even_if_it_will_not(tmp_path, caplog):
    mark = tmp_path / "pid"
    hanging = process(sys.executable, "-c", HANGS, str(mark), name="hanging", timeout_s=0.5)
    async with Sourced(hanging, process(*OLD, name="old")) as sourced:
        await sourced.up("old")
        await eventually(lambda: mark.exists() and mark.read_text() != "")
        assert sourced.source.connected == {"hanging": False, "old": True}
        assert all(name.startswith("old_") for name in sourced.names)
        await eventually(lambda: "MCP server hanging did not answer within 0.5 s" in caplog.text)
        pid = int(mark.read_text())
    assert not is_alive(pid)


async def test_a_start_that_is_cancelled_leaves_no_process_behind(tmp_path):
    mark = tmp_path / "pid"
    waits = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); sys.stdin.read()"
    sourced = Sourced(process(sys.executable, "-c", waits, str(mark)))
    start = asyncio.create_task(sourced.source.__aenter__())
    await eventually(lambda: mark.exists() and mark.read_text() != "")
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not is_alive(int(mark.read_text()))


async def test_a_command_that_is_not_there_is_told_in_the_log_and_stops_nobody(caplog):
    async with Sourced(process("/no/such/command", name="none")) as sourced:
        assert sourced.source.connected == {"none": False}
        assert sourced.names == []
    assert "MCP server none: FileNotFoundError" in caplog.text


async def test_a_server_of_the_first_era_is_understood_and_its_odd_tools_are_dealt_with(caplog):
    """agent.md 1.10 D22: more than one version of the protocol."""
    async with Sourced(process(*OLD, name="old")) as sourced:
        await sourced.up("old")
        assert [name for name in sourced.names if not name.startswith("old_get_item_")] == ["old_get_item", "old_other"]
        dotted = next(name for name in sourced.names if name.startswith("old_get_item_"))
        assert "MCP server old: the schema of its tool bad: SchemaError" in caplog.text
        assert "MCP server old: the schema of its tool long: it is longer than 32768 bytes" in caplog.text
        # What a server says of its tools is not what the operator says.
        assert sourced.registry.get(dotted).descriptor.effect == "write"
        assert len(sourced.registry.get("old_other").descriptor.description) == DESCRIPTION_CHARACTERS
        called = json.loads((await sourced.call(dotted, x=1)).content)
        assert (called["name"], called["arguments"]) == ("get.item", {"x": 1})

        await sourced.call("old_other")
        await eventually(lambda: "old_new" in sourced.names)


async def test_what_asked_for_the_run_is_told_to_the_server():
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    context = context_of()
    context = type(context)(
        context.run_id, context.session_id, context.call_id, context.scope, context.now, trace_parent=trace
    )
    async with Sourced(process(*OLD, name="old")) as sourced:
        await sourced.up("old")
        called = json.loads((await sourced.call("old_get_item", context)).content)
    assert called["_meta"]["traceparent"] == trace


async def test_a_list_without_end_is_cut():
    async with Sourced(process(*OLD, "endless", name="old")) as sourced:
        await sourced.up("old")
        assert len(sourced.names) == TOOLS


async def test_words_that_are_no_messages_are_passed_over():
    async with Sourced(process(*OLD, "noisy", name="old")) as sourced:
        await sourced.up("old")
        assert not (await sourced.call("old_get_item")).is_error


async def test_a_tool_that_comes_later_is_a_skill_later():
    async with Sourced(process(*DEMO)) as sourced:
        await sourced.up()
        assert "demo_echo_again" not in sourced.names
        await sourced.call("demo_grow")
        await eventually(lambda: "demo_echo_again" in sourced.names)


def test_without_the_extra_the_error_names_it():
    code = "import sys; sys.modules['mcp'] = None\n\
from argentor_asgi.agent.mcp.sdk import load\n\
try: load()\n\
except Exception as error: print(type(error).__name__, error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603  ours
    assert done.stdout == "ConfigError mcp.servers is set, which needs an extra: pip install 'argentor-asgi[mcp]'\n"


def test_without_servers_nothing_is_loaded():
    code = "import sys\n\
from argentor_asgi.agent.mcp.source import McpSource\n\
from argentor_asgi.agent.skills import SkillRegistry\n\
McpSource((), registry=SkillRegistry(), clock=None)\n\
print([name for name in ('mcp', 'anyio', 'httpx2', 'jsonschema', 'pydantic') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603  ours
    assert done.stdout == "[]\n"


def test_two_servers_of_one_name_are_refused():
    twins = [McpServer("twin", command=DEMO), McpServer("twin", url="http://127.0.0.1:1/mcp")]
    with pytest.raises(ConfigError, match="same name"):
        McpSource(twins, registry=SkillRegistry(), clock=SystemClock())
