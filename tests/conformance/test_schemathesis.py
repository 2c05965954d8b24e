"""schemathesis, by others, reads the gateway's own description and tries to catch it out: no 500, nothing undeclared.

Every check that it has is on, with these exceptions:

- `ignored_auth`: a gateway without keys serves everybody on its machine, and one with keys soon answers 429 to whoever
  sends one wrong key after the other, where the check wants 401; `test_routes_guarded` walks every route instead.
- `positive_data_acceptance` takes more statuses where a good request may still be refused for what no schema can say: a
  cursor that this gateway did not make, a model that it does not serve, an Idempotency-Key used for another body, a
  session that is busy, a run that is nobody's, a plan that is not configured, edited arguments for a call that may not
  run, an integer of more than 64 bits in a member that nobody reads, a control character in a path.
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
max-examples = 12
deterministic = true
database = "none"

[checks.positive_data_acceptance]
expected-statuses = ["2xx", "404"]

[[operations]]
include-path = [
  "/api/v1/sessions", "/api/v1/runs", "/api/v1/approvals", "/api/v1/audit/logs", "/api/v1/audit/violations",
]
checks.positive_data_acceptance.expected-statuses = ["2xx", "422"]

[[operations]]
include-path = ["/api/v1/agent/chat", "/api/v1/chat/stream"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "409", "422"]

[[operations]]
include-path-regex = "^/api/v1/(keys|skills/|approvals/)"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "422"]

[checks.ignored_auth]
enabled = false
"""
WITH_KEYS = f'[auth.openapi.bearerAuth]\nbearer = "{KEY}"\n'


SPARED = ["--exclude-path", "/api/v1/admin/drain"]
"""What would end the test: the gateway stops when it is told to."""
KEYLESS = ["--exclude-path-regex", "^/api/v1/keys"]
"""What a first key would end: nobody comes in without one from then on."""


@pytest.mark.parametrize("api_keys", ["", f"ops:{KEY}"], ids=["anonymous", "with a key"])
def test_schemathesis_finds_nothing_to_complain_about(api_keys, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(SETTINGS + (WITH_KEYS if api_keys else ""))
    env = {"ARGENTOR_LIMITS_ENABLED": "false"} | ({"ARGENTOR_AUTH_API_KEYS": api_keys} if api_keys else {})
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
    command += [*SPARED, *(["--header", f"Authorization: Bearer {KEY}"] if api_keys else KEYLESS)]
    return subprocess.run(  # noqa: S603  our own interpreter, our own arguments
        command, cwd=running.cwd, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
