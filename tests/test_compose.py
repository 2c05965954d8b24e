"""`argentor_asgi.compose`: what the gateway is made of, what cannot work, and what it does at its start and its end."""

import asyncio
import logging
import os
from dataclasses import replace

import pytest
from asgi_driver import StartupFailed, begin, http, lifespan, soon, until
from contracts.store_values import a_message, a_run, a_session
from doors import CHAT, doors
from faulty_store import FaultyStore
from scripted_backend import Park, ScriptedBackend, answer

from argentor_asgi.agent.skills import skill
from argentor_asgi.asgi.route import route, socket
from argentor_asgi.asgi.websocket import WebSocket
from argentor_asgi.compose import configured_app, create_app, openapi, rows
from argentor_asgi.config import Config, Limits, Log, Storage
from argentor_asgi.errors import ConfigError
from argentor_asgi.gateway.services import Services
from argentor_asgi.protocol.llm import Finish, TextPiece
from argentor_asgi.sessions.records import Scope

pytestmark = pytest.mark.slow

QUIET = Log(access=False)
MEMORY = Config(storage=Storage(url="memory://"), log=QUIET)
LOCAL = {"host": "localhost"}
JSON = {**LOCAL, "content-type": "application/json"}
HALVES = [TextPiece("half "), Park(), TextPiece("whole"), Finish("stop")]
ANONYMOUS = Scope("anonymous")


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch, tmp_path):
    """Be in an empty directory, with none of this process's own settings, and leave its logging as it was."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("ARGENTOR_"):
            monkeypatch.delenv(name)
    logger = logging.getLogger("argentor")
    before = (logger.handlers.copy(), logger.level, logger.propagate)
    yield
    logger.handlers, logger.level, logger.propagate = before


@skill("dog_years", "Turns years into a dog's years.")
def dog_years(years: int) -> dict[str, int]:
    """Return the years of a dog."""
    return {"years": years * 7}


@route("GET", "/skills/count", needs=None)
async def count(services: Services) -> dict[str, int]:
    """Count the skills."""
    return {"skills": len(services.skills)}


@route("GET", "/health", needs=None)
async def health() -> dict[str, str]:
    """Take a path that is taken."""
    return {}


@socket("/echo", needs=None)
async def echo(socket: WebSocket) -> None:
    """Say one message back."""
    await socket.accept()
    await socket.send(await socket.receive())


async def get(app, target):
    return await http(app, "GET", target, headers=LOCAL)


async def chat(app, message="hi"):
    return await http(app, "POST", CHAT, headers=JSON, body=b'{"message":"%s"}' % message.encode())


# --- configuration -----------------------------------------------------------------------------------------------


async def test_a_gateway_as_the_file_and_the_environment_describe_it(tmp_path, monkeypatch):
    (tmp_path / "argentor.toml").write_text('[storage]\nurl = "memory://"\n[limits]\nmessage_bytes = 99\n')
    monkeypatch.setenv("ARGENTOR_LIMITS_MESSAGE_BYTES", "5")
    for app in (configured_app(), create_app()):
        async with lifespan(app):
            assert [(await chat(app, text)).status for text in ("short", "longer")] == [200, 413]


async def test_a_configuration_that_cannot_work_is_a_failed_startup_of_one_line(tmp_path):
    (tmp_path / "argentor.toml").write_text("[limits]\nruns = 0\n")
    app = configured_app()
    with pytest.raises(StartupFailed, match=r"^limits\.runs [^\n]*$"):
        async with lifespan(app):
            pass
    with pytest.raises(ConfigError, match=r"limits\.runs"):
        await get(app, "/health")


@pytest.mark.parametrize(
    "config",
    [
        Config(storage=Storage(url="redis://localhost")),
        replace(MEMORY, limits=Limits(runs=0)),
        replace(MEMORY, public_url="nonsense"),
    ],
)
def test_a_configuration_made_in_code_is_checked_as_one_that_is_read(config):
    with pytest.raises(ConfigError):
        create_app(config)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"skills": [dog_years, dog_years]}, "dog_years"),
        ({"routes": [health]}, "GET /health is declared twice"),
        ({"routes": [count, count]}, "GET /skills/count is declared twice"),
        ({"routes": [echo, echo]}, "/echo"),
    ],
)
def test_a_name_that_is_taken_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        create_app(MEMORY, **options)


async def test_a_store_that_cannot_be_opened_is_a_failed_startup_of_one_line(tmp_path):
    app = create_app(Config(storage=Storage(url=f"sqlite:///{tmp_path}/nowhere/a.db")))
    with pytest.raises(StartupFailed, match=r"^[^\n]*nowhere[^\n]*$"):
        async with lifespan(app):
            pass


# --- what it is made of ------------------------------------------------------------------------------------------


async def test_without_a_model_of_its_own_it_answers_with_the_built_in_one():
    app = create_app(MEMORY)
    async with lifespan(app):
        reply = (await http(app, "POST", CHAT, headers=JSON, body=b'{"message":"what is 17*23?"}')).json()
        assert (reply["model"], "391" in reply["response"]) == ("argentor-builtin/1", True)


async def test_the_model_the_store_the_skills_and_the_routes_are_those_that_are_given():
    backend, store = ScriptedBackend(answer("scripted")), FaultyStore()
    app = create_app(MEMORY, agent=backend, sessions=store, skills=[dog_years], routes=[count, echo])
    async with lifespan(app):
        assert (await chat(app)).json()["response"] == "scripted"
        assert await store.count_sessions(ANONYMOUS) == 1
        listed = [found["name"] for found in (await get(app, "/api/v1/skills")).json()]
        assert "dog_years" in listed
        assert (await get(app, "/skills/count")).json() == {"skills": len(listed)}
        assert "dog_years" in {tool.name for tool in backend.requests[0].tools}
        assert "/skills/count" in (await get(app, "/openapi.json")).json()["paths"]
        assert b'path="/skills/count"' in (await get(app, "/metrics")).body
        assert not backend.is_closed
    assert backend.is_closed


class Countable(FaultyStore):
    """A store that counts as nothing while it is empty."""

    def __len__(self):
        return len(self._sessions)


class Silent(ScriptedBackend):
    """A model that counts as nothing until it is asked."""

    def __len__(self):
        return len(self.requests)


async def test_a_store_or_a_model_that_is_still_empty_is_used_even_so():
    backend, store = Silent(), Countable()
    app = create_app(MEMORY, agent=backend, sessions=store)
    async with lifespan(app):
        await chat(app)
    assert (len(backend), len(store)) == (1, 1)


async def test_middleware_is_around_the_whole_outermost_first():
    seen = []

    def named(name):
        def wrap(app):
            async def middleware(scope, receive, send):
                seen.append((name, scope["type"]))
                await app(scope, receive, send)

            return middleware

        return wrap

    app = create_app(MEMORY, middleware=[named("outer"), named("inner")])
    async with lifespan(app):
        await get(app, "/health")
    assert [name for name, kind in seen if kind == "http"] == ["outer", "inner"]


async def test_two_gateways_share_nothing():
    one, two = create_app(MEMORY, agent=ScriptedBackend()), create_app(MEMORY, agent=ScriptedBackend())
    async with lifespan(one), lifespan(two):
        await chat(one)
        assert [len((await get(app, "/api/v1/sessions")).json()) for app in (one, two)] == [1, 0]
        scrapes = [(await get(app, "/metrics")).body for app in (one, two)]
        assert [b'argentor_runs_total{status="done"}' in scrape for scrape in scrapes] == [True, False]
        assert [b'path="/api/v1/agent/chat"' in scrape for scrape in scrapes] == [True, False]


async def test_the_description_says_where_the_gateway_is_when_that_is_known():
    assert "servers" not in openapi()
    app = create_app(replace(MEMORY, public_url="https://a.example/b"))
    async with lifespan(app):
        assert (await get(app, "/openapi.json")).json()["servers"] == [{"url": "https://a.example/b"}]


def test_every_call_makes_rows_of_its_own():
    one, other = rows(), rows()
    assert [row.template for row in one] == [row.template for row in other]
    assert not any(row is twin for row, twin in zip(one, other, strict=True))
    assert [row.template for row in rows(count)][-1] == "/skills/count"


# --- start and end -----------------------------------------------------------------------------------------------


async def test_what_a_crash_left_behind_is_interrupted_at_the_start_and_logged(caplog):
    store = FaultyStore()
    for name in ("a", "b"):
        run = a_run(name, name, ANONYMOUS)
        await store.begin_run(run, session=a_session(name, ANONYMOUS), message=a_message(session_id=name))
    with caplog.at_level(logging.WARNING, "argentor"):
        async with lifespan(create_app(MEMORY, agent=ScriptedBackend(), sessions=store)):
            pass
    assert [record.getMessage() for record in caplog.records] == [
        "2 runs were interrupted when the gateway stopped last"
    ]
    assert [(await store.get_run(ANONYMOUS, name)).status for name in ("a", "b")] == ["interrupted"] * 2


async def test_a_clean_start_and_end_logs_no_warning_and_leaves_no_task(caplog):
    caplog.set_level(logging.WARNING, "argentor")
    before = asyncio.all_tasks()
    async with lifespan(create_app(MEMORY, agent=ScriptedBackend(HALVES))) as _:
        assert {"prune"} <= {task.get_name() for task in asyncio.all_tasks()}
    await until(lambda: asyncio.all_tasks() <= before)
    assert caplog.records == []


async def test_the_end_gives_runs_their_time_and_stops_those_that_need_more():
    async with doors(HALVES, drain_s=0.1, total_s=1.0) as house:
        asking = house.begin("POST", CHAT, {"message": "hi"})
        await soon(house.backend.parked.wait())
        house.drain.begin("test")
        assert (await asking.end()).json()["code"] == "cancelled"
        await soon(house.drain.finished.wait())
        assert house.backend.streams == 0


async def test_without_a_lifespan_the_first_request_starts_it_once():
    store = FaultyStore()
    gate = store.gate("prune")
    app = create_app(MEMORY, agent=ScriptedBackend(), sessions=store)
    both = [begin(app, "GET", "/health/ready", headers=LOCAL) for _ in range(2)]
    assert [(await found.end()).status for found in both] == [200, 200]
    assert (await chat(app)).status == 200
    assert [task.get_name() for task in asyncio.all_tasks()].count("prune") == 1
    gate.set()


async def test_what_was_said_is_there_after_a_restart(tmp_path):
    config = Config(storage=Storage(url=f"sqlite:///{tmp_path}/a.db"), log=QUIET)
    for said in (["one"], ["one", "two"]):
        app = create_app(config, agent=ScriptedBackend())
        async with lifespan(app):
            await chat(app, said[-1])
            titles = [found["title"] for found in (await get(app, "/api/v1/sessions")).json()]
            assert titles == said[::-1]


def test_a_configured_gateway_logs_as_configured_and_an_embedded_one_leaves_that_to_its_host(monkeypatch):
    logger = logging.getLogger("argentor")
    logger.setLevel(logging.NOTSET)
    create_app(MEMORY)
    assert logger.level == logging.NOTSET
    monkeypatch.setenv("ARGENTOR_LOG_LEVEL", "error")
    configured_app()
    assert (logger.level, logger.propagate) == (logging.ERROR, False)
