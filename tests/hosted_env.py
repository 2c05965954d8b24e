"""Gateways whose model is a server of the test: their environment, on any of the wires, and one in this process.

async with raw_server(model) as raw, hosted_house(raw.url, llm={"retries": 2}) as house:
    answer = await house.post(CHAT, {"message": "hi"})
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asgi_driver import lifespan
from doors import Doors
from faulty_store import FaultyStore
from hosted_models import KEY, PROVIDER_OF

from argentor_asgi.compose import gateway
from argentor_asgi.config import Config, Llm, Log, Secret, Storage


def hosted_env(models: str, wire: str = "openai", **more: str) -> dict[str, str]:
    """Return the settings of a gateway that asks `models` over this wire; `more` by name, as `agent_skills="regex"`."""
    return {
        "ARGENTOR_LLM_PROVIDER": PROVIDER_OF[wire],
        "ARGENTOR_LLM_MODEL": "m-1",
        "ARGENTOR_LLM_API_KEY": KEY,
        "ARGENTOR_LLM_BASE_URL": models,
        "ARGENTOR_LLM_RETRIES": "0",
        **{f"ARGENTOR_{name.upper()}": value for name, value in more.items()},
    }


@asynccontextmanager
async def hosted_house(models: str, *, llm: dict | None = None, **tables: object) -> AsyncIterator[Doors]:
    """Hold a gateway that asks `models` as OpenAI's, and check its runs at the end; `tables`: of its configuration."""
    settings = {"provider": "openai", "model": "m-1", "api_key": Secret(KEY), "base_url": models, "retries": 0}
    config = Config(
        storage=Storage(url="memory://"), log=Log(access=False), llm=Llm(**settings, **(llm or {})), **tables
    )
    store = FaultyStore()
    made = gateway(config, sessions=store)
    async with lifespan(made.app):
        yield Doors(made.app, None, store, made.drain)
    store.check_runs()
