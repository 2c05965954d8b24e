"""An audit log for tests, and ways to look at its files."""

import json
from datetime import UTC, datetime, timedelta

from argentor_asgi.ops.audit import Audit
from argentor_asgi.ops.audit_read import ACTIVE, rotated

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class StillClock:
    def __init__(self):
        self.at, self.s = START, 0.0

    def now(self):
        return self.at

    def monotonic(self):
        return self.s

    def pass_by(self, seconds):
        self.at += timedelta(seconds=seconds)
        self.s += seconds


def an_audit(directory, clock=None, **fields):
    return Audit(directory, **{"clock": clock or StillClock(), "file_bytes": 10**6, "retention_days": 30} | fields)


def lines(directory):
    paths = [*rotated(directory), directory / ACTIVE]
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def actions(directory):
    return [line["action"] for line in lines(directory)]


async def seen(audit, **asked):
    """Return what is read back, oldest first, without what the log says of itself."""
    await audit.flush()
    page = await audit.logs(**{"limit": 1000} | asked)
    return [row for row in reversed(page.rows) if not row.action.startswith("audit_")]
