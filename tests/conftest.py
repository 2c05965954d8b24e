"""Makes the helper modules beside this file importable, and in CI turns a test that is left out into a failure."""

import gc
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# A hundred examples each is three seconds that find nothing; what needs more says so itself.
settings.register_profile("house", max_examples=40)
settings.load_profile("house")

sys.path.insert(0, str(Path(__file__).parent))


def pytest_collection_finish():
    """Keep the thousands of collected tests out of every collection of garbage that a test brings about."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was left out, which CI does not take: {call.excinfo.value}"
    return report
