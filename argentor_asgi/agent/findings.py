"""What guardrails are shown, and what they found, as evidence: which rule, and what it did; never what it found."""

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from argentor_asgi.ops.audit import Audit
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.protocol.events import Guardrail
from argentor_asgi.sessions.records import Scope

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from argentor_asgi.agent.guardrails import Seen

LARGE_CHARS: Final = 8 * 1024
"""From which length on a text is looked at in a thread, so that the event loop need not wait."""


async def looked_at(look: "Callable[[str], Seen]", text: str) -> "Seen":
    """Return what `look` says of a text; cancelled, it goes on unheard.

    Long texts are looked at in one thread, one after the other: several would be no sooner done, since they share one
    interpreter, and each of them would keep the event loop waiting.
    """
    if len(text) < LARGE_CHARS:
        return look(text)
    return await asyncio.get_running_loop().run_in_executor(_thread(), look, text)


@lru_cache(maxsize=1)
def _thread() -> "Executor":
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  few texts are so long

    return ThreadPoolExecutor(1, thread_name_prefix="guardrails")


def record_finding(
    audit: Audit,
    metrics: Metrics,
    finding: Guardrail,
    scope: Scope,
    *,
    session_id: str | None = None,
    run_id: str | None = None,
) -> None:
    """Count one finding and write it to the audit log; what was stopped is `denied`."""
    metrics.guardrail_found(finding.rule, finding.phase, finding.severity)
    audit.record(
        f"guardrail_{finding.phase}",
        outcome="denied" if finding.severity == "block" else "success",
        principal=scope.owner,
        tenant=scope.tenant,
        session_id=session_id,
        details={"run_id": run_id, "rule": finding.rule, "severity": finding.severity},
    )
