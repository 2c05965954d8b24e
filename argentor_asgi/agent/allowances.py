"""How much a run, or the runs of a principal's day, may use, and what of it is used up."""

from dataclasses import dataclass
from typing import Final

from argentor_asgi import config
from argentor_asgi.sessions.records import MICROS, Used


@dataclass(frozen=True, slots=True)
class Allowance:
    """A bound on each field of `Used`; None bounds nothing."""

    tokens: int | None = None
    cost_micros: int | None = None
    work_ms: int | None = None
    tool_calls: int | None = None


UNBOUNDED: Final = Allowance()
"""Nothing is refused."""


def of_run(agent: config.Agent) -> Allowance:
    """Return what one run may use. Its seconds have their own deadline, and another error."""
    return Allowance(tokens=agent.run_tokens, cost_micros=_micros(agent.run_cost), tool_calls=agent.run_tool_calls)


def of_day(limits: config.Limits, plan: config.Plan | None) -> Allowance:
    """Return what a principal's runs may use in a day: what its plan says, and what `limits` says where it does not.

    The day's tokens are a quota of the account (`security.limits`), which sets them aside before a run begins.
    """
    given = plan or config.Plan()
    seconds = _first(given.run_seconds_per_day, limits.run_seconds_per_day)
    return Allowance(
        cost_micros=_micros(limits.cost_per_day if given.cost_per_day is None else given.cost_per_day),
        work_ms=None if seconds is None else seconds * 1000,
        tool_calls=_first(given.tool_calls_per_day, limits.tool_calls_per_day),
    )


def used_up(used: Used, allowed: Allowance) -> str | None:
    """Return in words the first bound that leaves nothing for a model call; None when there is none.

    A bound on calls of skills is none of these: the model can answer without them.
    """
    if allowed.tokens is not None and used.tokens >= allowed.tokens:
        return f"{allowed.tokens} tokens"
    if allowed.cost_micros is not None and used.cost_micros >= allowed.cost_micros:
        return f"{allowed.cost_micros / MICROS:.6f}".rstrip("0").rstrip(".") + " in costs"
    if allowed.work_ms is not None and used.work_ms >= allowed.work_ms:
        return f"{allowed.work_ms // 1000} seconds"
    return None


def calls_short(used: Used, allowed: Allowance, count: int) -> str | None:
    """Return in words why `count` more calls of skills are too many; None when they are not."""
    if allowed.tool_calls is None or not count or used.tool_calls + count <= allowed.tool_calls:
        return None
    return f"{allowed.tool_calls} skill calls has {max(0, allowed.tool_calls - used.tool_calls)} left, not {count}"


def _micros(money: float | None) -> int | None:
    """Return the money in millionths; what is more than nothing stays so."""
    return None if money is None else max(round(money * MICROS), int(money > 0))


def _first(own: int | None, common: int | None) -> int | None:
    return common if own is None else own
