"""`argentor_asgi.doctor.hosted`: one tiny call to each model, and what became of it in plain words."""

import asyncio
import re

import pytest
from hosted_models import KEY as MODEL_KEY
from hosted_models import talk
from raw_server import raw_server

from argentor_asgi.agent_sections import Fallback, Llm
from argentor_asgi.config import Config, Secret
from argentor_asgi.doctor import hosted
from argentor_asgi.doctor.finding import Finding
from argentor_asgi.errors import ContextOverflow, ProviderRateLimited


def asking(*urls: str, key: str = MODEL_KEY) -> Config:
    """Return a configuration of a model at each of these places."""
    first, *others = urls
    fallbacks = tuple(Fallback("claude", f"m-{at}", Secret(key), url) for at, url in enumerate(others, 2))
    return Config(llm=Llm("openai", model="m-1", api_key=Secret(key), base_url=first, fallbacks=fallbacks))


async def looked_at(config: Config, within_s: float = hosted.MODEL_S) -> list[Finding]:
    return await asyncio.to_thread(lambda: list(hosted.models(config, within_s)))


def test_the_built_in_model_is_not_called():
    assert list(hosted.models(Config())) == []


async def test_each_model_is_asked_once_for_a_few_tokens_and_its_time_told():
    async with raw_server(talk("openai")) as first, raw_server(talk("anthropic")) as second:
        found = await looked_at(asking(first.url, second.url))
    assert [re.sub("[0-9]+ ms", "N ms", each.words) for each in found] == [
        "openai/m-1 answered in N ms",
        "claude/m-2 answered in N ms",
    ]
    assert {each.level for each in found} == {"ok"}
    assert [asked.json()["max_completion_tokens"] for asked in first.asked] == [16]
    assert [asked.json()["max_tokens"] for asked in second.asked] == [16]


@pytest.mark.parametrize(
    ("status", "level", "words"),
    [
        (401, "fail", "refuses the key"),
        (404, "fail", "is not known"),
        (400, "fail", "cannot be asked this way"),
        (429, "warn", "is at its limit"),
        (500, "fail", "cannot be reached or fails"),
    ],
)
async def test_a_refusal_is_told_in_plain_words_without_the_key(status: int, level: str, words: str, caplog):
    async def talking(_asked, line):
        await line.answer_json({"error": {"message": f"no {MODEL_KEY}", "type": "odd_type"}}, status)

    async with raw_server(talking) as raw:
        (found,) = await looked_at(asking(raw.url))
    assert (found.level, found.subject) == (level, "model")
    assert words in found.words
    assert f"The provider said {status}: odd_type" in found.words
    assert MODEL_KEY not in found.words + caplog.text


async def test_a_provider_that_is_not_there_or_breaks_off_is_told():
    async with raw_server(lambda _, line: line.events(end=True)) as raw:
        (found,) = await looked_at(asking(raw.url))
        assert (found.level, "broke off" in found.words) == ("fail", True)
    (found,) = await looked_at(asking(raw.url))
    assert (found.level, "127.0.0.1: no connection could be made" in found.words) == ("fail", True)


async def test_a_model_that_takes_too_long_is_told():
    async with raw_server(lambda _, line: line.stall()) as raw:
        (found,) = await looked_at(asking(raw.url), 0.05)
        await raw.lines[0].gone()
    assert found == Finding("fail", "model", "openai/m-1 did not answer within 0.05 s")


async def test_a_model_that_cannot_be_asked_at_all_is_told():
    (found,) = await looked_at(asking("ftp://a"))
    assert (found.level, "llm.base_url" in found.words) == ("fail", True)


def test_other_failures_are_told_in_their_own_words():
    found = hosted.model_failure("a/b", ContextOverflow())
    assert found == Finding("fail", "model", f"a/b {ContextOverflow.message}")
    assert hosted.model_failure("a/b", ProviderRateLimited()).level == "warn"
