"""What guardrails found, as evidence: which rule, and what it did; never what it found."""

from typing import Final

from argentor_asgi.ops.audit import Audit
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.protocol.events import Guardrail
from argentor_asgi.sessions.records import Scope

LARGE_CHARS: Final = 8 * 1024
"""From which length on a text is looked at in a thread, so that the event loop need not wait."""


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
