"""schemathesis, by others, reads the gateway's own description and tries to catch it out: no 500, nothing undeclared.

Every check that it has is on, with these exceptions:

- `ignored_auth` on a gateway without keys: it serves everybody on its machine, so there is nothing to ignore.
- `positive_data_acceptance` takes more statuses where a good request may still be refused for what no schema can say: a
  cursor that this gateway did not make, a model that it does not serve, an Idempotency-Key used for another body, a
  session that is busy or a run that is nobody's.
"""

import subprocess
import sys

import pytest
from hostile import MIB, calculates, levels_off
from processes import server

pytestmark = pytest.mark.slow

KEY = "correct-horse-battery"
LIMIT_S = 120
GROWTH_BYTES = 48 * MIB
"""How much memory a fresh server may take on under thousands of odd requests, its caches among them."""
SETTINGS = """
workers = 2

[generation]
max-examples = 20
deterministic = true
database = "none"

[checks.positive_data_acceptance]
expected-statuses = ["2xx", "404"]

[[operations]]
include-path = ["/api/v1/sessions", "/api/v1/runs"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "422"]

[[operations]]
include-path = ["/api/v1/agent/chat", "/api/v1/chat/stream"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "404", "409", "422"]
"""
WITHOUT_KEYS = "[checks.ignored_auth]\nenabled = false\n"
WITH_KEYS = f'[auth.openapi.bearerAuth]\nbearer = "{KEY}"\n'


@pytest.mark.parametrize("api_keys", ["", f"ops:{KEY}"], ids=["anonymous", "with a key"])
def test_schemathesis_finds_nothing_to_complain_about(api_keys, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(SETTINGS + (WITH_KEYS if api_keys else WITHOUT_KEYS))
    env = {"ARGENTOR_AUTH_API_KEYS": api_keys} if api_keys else {}
    with server("hypercorn-asyncio", cwd=tmp_path, workers=0, env=env) as running:
        grown = levels_off(running.pid, lambda: check_nothing_found(running, api_keys), GROWTH_BYTES)
        assert grown[-1] < GROWTH_BYTES, grown
        assert calculates(running.port, key=KEY)


def check_nothing_found(running, api_keys) -> None:
    found = complaints(running, api_keys)
    assert found.returncode == 0, found.stdout[-20_000:]


def complaints(running, api_keys) -> subprocess.CompletedProcess:
    """Run schemathesis to its end; what it prints is what it found."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/openapi.json", "--no-color"]
    if api_keys:
        command += ["--header", f"Authorization: Bearer {KEY}"]
    return subprocess.run(  # noqa: S603  our own interpreter, our own arguments
        command, cwd=running.cwd, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
