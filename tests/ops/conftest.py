"""What the tests of the audit log share: one that is open in a directory of its own, under a clock that stands."""

import pytest
from audit_place import StillClock, an_audit


@pytest.fixture
def clock():
    return StillClock()


@pytest.fixture
def make(tmp_path, clock):
    def made(directory=tmp_path / "audit", **fields):
        return an_audit(directory, clock, **fields)

    return made


@pytest.fixture
async def audit(make):
    async with make() as opened:
        yield opened
