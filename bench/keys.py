"""Whether a refusal takes the same time whatever is wrong with the key: another secret, an unknown id, an expired key.

One call a sample, the kinds shuffled among each other, each sample with a key that was not presented just before. Each
kind is held against the first by two tests: Welch's t on the samples without the slowest twentieth, and Mann-Whitney's
U on all. With so many samples even a nanosecond becomes significant, so the bar is on the size of the effect: Cohen's d
and Cliff's delta, neither more than a tenth, which an attacker would need very many guesses to see without any network.
"""
# ruff: noqa: PLC0415  the gateway is imported only when it is measured, for it may be absent

import asyncio
import gc
import math
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from statistics import fmean, median, variance
from typing import TYPE_CHECKING, Any

from bench import ours
from bench.calls import HEADERS, App, Exchange, http_scope, lifespan
from bench.harness import Goal, Plan, Record, Report, percentile

if TYPE_CHECKING:
    from argentor_asgi.security.keys import NewKey

EFFECT_BAR = 0.1
"""How large the effect of what is wrong may be, in either measure; 0.2 counts as small (Cohen 1988)."""
KEPT = 0.95
"""The share of samples that the t test keeps: the rest is the machine's."""
SEED = 20_260_101
PATH = "/api/v1/agent/status"
EXPIRED_S = 1_000_000_000.0
PAST = 100
"""How many keys have expired; so few that the processor's caches hold them, and each is presented again and again."""
UNKNOWN, WRONG = "unknown id", "other secret"
THROUGH = 4
"""One of how many samples goes through the whole application, which takes so much longer."""
ADDRESSES = 8192
"""From how many addresses the whole application is asked: fewer than are told apart, so many that none is throttled."""
CHUNK = 50
"""Samples between two turns of the event loop and of the collector, which are no part of them."""
REFUSED = 401

Samples = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Compared:
    """One kind against another: the medians' difference in ns, and what two tests say of it; both p are two-sided."""

    median_ns: float
    welch_p: float
    cohen_d: float
    rank_p: float
    cliff_delta: float


def compared(one: Sequence[float], other: Sequence[float]) -> Compared:
    """Compare two sets of samples in ns, each of two values at least."""
    bound = percentile([*one, *other], KEPT)
    t_p, d = welch([each for each in one if each <= bound], [each for each in other if each <= bound])
    rank_p, delta = mann_whitney(one, other)
    return Compared(median(one) - median(other), t_p, d, rank_p, delta)


def welch(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Return the two-sided p of Welch's t, by the normal law that it follows for many samples, and Cohen's d."""
    difference = fmean(one) - fmean(other)
    spread, other_spread = variance(one), variance(other)
    error = math.sqrt(spread / len(one) + other_spread / len(other))
    pooled = math.sqrt((spread + other_spread) / 2)
    if not error:
        return (1.0, 0.0) if not difference else (0.0, math.copysign(math.inf, difference))
    return two_sided(difference / error), difference / pooled


def mann_whitney(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Return the two-sided p of Mann-Whitney's U, corrected for ties, and Cliff's delta: -1.0 to 1.0."""
    n, m = len(one), len(other)
    total, ties, ranks, below = n + m, 0, 0.0, 0
    ranked = sorted([*((value, True) for value in one), *((value, False) for value in other)])
    for _, tied in groupby(ranked, key=lambda pair: pair[0]):
        mine = [is_mine for _, is_mine in tied]
        ranks += sum(mine) * (below + (len(mine) + 1) / 2)
        below += len(mine)
        ties += len(mine) ** 3 - len(mine)
    u = ranks - n * (n + 1) / 2
    spread = math.sqrt(n * m / 12 * (total + 1 - ties / (total * (total - 1))))
    return two_sided((u - n * m / 2) / spread) if spread else 1.0, 2 * u / (n * m) - 1


def two_sided(z: float) -> float:
    """Return the chance of a standard normal value at least this far from 0."""
    return math.erfc(abs(z) / math.sqrt(2))


# --- what is measured --------------------------------------------------------------------------------------------


def run(plan: Plan) -> Report:
    """Time `plan.count` refusals of each kind, of the keys alone and through the whole application."""
    record = Record()
    goals: list[Goal] = []
    if ours.present():
        measured = {"keys alone": alone(plan.count), "whole application": asyncio.run(through(plan.count // THROUGH))}
        for group, samples in measured.items():
            goals += _judged(record, group, samples)
    return Report(
        bench="keys",
        settings={"samples of each kind": plan.count, "effect bar": EFFECT_BAR},
        series=record.series(),
        absent=ours.absent(),
        notes=[
            "diff_ns, p and effects: against the first row",
            "p says whether there is an effect, d and delta how large",
            "expired: found and compared in full, so a little slower; only who once held the key can present it",
        ],
        goals=goals,
    )


def _judged(record: Record, group: str, samples: Samples) -> list[Goal]:
    first = next(iter(samples))
    goals = []
    for kind, taken in samples.items():
        found = compared(taken, samples[first])
        record.add(
            group,
            kind,
            median_ns=median(taken),
            diff_ns=found.median_ns,
            welch_p=found.welch_p,
            cohen_d=found.cohen_d,
            rank_p=found.rank_p,
            cliff_delta=found.cliff_delta,
        )
        if kind == WRONG:
            effect = max(abs(found.cohen_d), abs(found.cliff_delta))
            goals.append(Goal(f"{group}: {kind} / {first}, effect", effect, EFFECT_BAR))
    return goals


def alone(count: int) -> Samples:
    """Time `Keys.verify` itself."""
    from argentor_asgi.security.identity import Principal
    from argentor_asgi.security.keys import Credential, Keys, new_key

    known, past = new_key(), [new_key() for _ in range(PAST)]
    keys = Keys()
    keys.add(Credential(Principal("known", key_id=known.id), known.digest))
    for key in past:
        keys.add(Credential(Principal("past", key_id=key.id), key.digest, EXPIRED_S))

    async def refuse(presented: bytes, _number: int) -> float:
        began = time.perf_counter_ns()
        found = keys.verify(presented, EXPIRED_S * 2)
        took = time.perf_counter_ns() - began
        assert found is None
        return took

    return asyncio.run(_timed(_presented(known.id, _repeated(past, count)), refuse))


async def through(count: int) -> Samples:
    """Time the whole application's 401, from many addresses in turn, for failures are throttled by address."""
    from argentor_asgi import create_app
    from argentor_asgi.api_keys import Key, Secret
    from argentor_asgi.security.keys import new_key

    def row(key: "NewKey", expires_at: datetime | None) -> Key:
        return Key(key.id, sha256=Secret(key.digest.hex()), expires_at=expires_at)

    known, past = new_key(), [new_key() for _ in range(PAST)]
    rows = (row(known, None), *(row(key, datetime.fromtimestamp(EXPIRED_S, UTC)) for key in past))
    config = ours.config()
    app = create_app(replace(config, auth=replace(config.auth, keys=rows)))
    async with lifespan(app) as state:
        return await _timed(_presented(known.id, _repeated(past, count)), partial(_refused, app, state))


async def _refused(app: App, state: dict[str, Any], presented: bytes, number: int) -> float:
    headers = (*HEADERS, (b"authorization", b"Bearer " + presented))
    scope = http_scope("GET", PATH, headers, state)
    scope["client"] = (f"10.0.{number % ADDRESSES >> 8}.{number & 255}", 50_000)
    exchange = Exchange(b"")
    began = time.perf_counter_ns()
    await app(scope, exchange.receive, exchange.send)
    took = time.perf_counter_ns() - began
    if exchange.status != REFUSED:
        raise RuntimeError(f"a bad key was answered {exchange.status} {exchange.chunks[:300]!r}")
    return took


def _repeated(past: Sequence["NewKey"], count: int) -> list[str]:
    return [past[number % len(past)].text.reveal() for number in range(count)]


def _presented(known: str, past: Sequence[str]) -> Mapping[str, Sequence[bytes]]:
    """Return what is presented, by what is wrong with it; all keys are equally long."""
    unknown = [f"agtr_{secrets.token_hex(len(known) // 2)}_{secrets.token_urlsafe(32)}" for _ in past]
    wrong = [f"agtr_{known}_{secrets.token_urlsafe(32)}" for _ in past]
    kinds = {UNKNOWN: unknown, WRONG: wrong, "expired": past}
    return {kind: [text.encode() for text in texts] for kind, texts in kinds.items()}


async def _timed(presented: Mapping[str, Sequence[bytes]], refuse: Callable[[bytes, int], Awaitable[float]]) -> Samples:
    """Take every sample once, in an order of chance, after a tenth that warms up; in ns."""
    todo = [(kind, text) for kind, texts in presented.items() for text in texts]
    random.Random(SEED).shuffle(todo)  # noqa: S311  an order, and no secret
    for number, (_, text) in enumerate(todo[: len(todo) // 10]):
        await refuse(text, -number)
    taken: dict[str, list[float]] = {kind: [] for kind in presented}
    gc.collect()
    gc.disable()
    try:
        for number, (kind, text) in enumerate(todo):
            taken[kind].append(await refuse(text, number))
            if number % CHUNK == 0:
                gc.collect(0)
                await asyncio.sleep(0)
    finally:
        gc.enable()
    return taken
