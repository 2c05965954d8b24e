"""`argentor_asgi.security.refusals`: each refusal is counted and kept as evidence, once a minute."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from asgi_driver import head_of, scope_of
from audit_place import StillClock, an_audit, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.asgi.request import Incoming
from argentor_asgi.config import Limits
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.security.accounts import Account, numbers
from argentor_asgi.security.identity import ANONYMOUS, Principal
from argentor_asgi.security.refusals import Refusals

ME = Principal("me", "acme", key_id="k1")
REASONS = ["missing", "invalid", "throttled", "not_local", "foreign_origin"]


class Desk:
    """Refusals to a real log and real metrics, with a clock that stands still."""

    def __init__(self, directory):
        self.clock = StillClock()
        self.audit = an_audit(directory, self.clock)
        self.metrics = Metrics(clock=self.clock)
        self.refusals = Refusals(self.metrics, self.audit)

    async def counts(self, family):
        text = (await self.metrics.render(None))[0].decode()
        lines = [line for line in text.splitlines() if line.startswith(family + "{")]
        return {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in lines}

    async def seen(self):
        return await seen(self.audit)


@pytest.fixture
async def desk(tmp_path):
    made = Desk(tmp_path / "audit")
    async with made.audit:
        yield made


async def never():
    raise AssertionError("a refusal reads nothing")


def asked(path="/api/v1/sessions", request_id="r-1"):
    scope = scope_of("http", path, [(b"x-request-id", request_id.encode()), (b"authorization", b"Bearer SECRET")])
    return Incoming(scope, never, *head_of(scope))


def account_of(principal, key):
    return Account(key, principal, numbers(Limits(), None), now=0.0, day=0)


@pytest.mark.parametrize("reason", REASONS)
async def test_a_caller_nobody_knows_is_counted_and_kept_with_path_and_address_and_no_credential(desk, reason):
    desk.refusals.unknown(reason, asked("/read?api_key=SECRET"), "192.0.2.1")
    (row,) = await desk.seen()
    assert (row.action, row.outcome, row.principal, row.tenant) == ("auth_failed", "denied", None, None)
    assert (row.request_id, row.address) == ("r-1", "192.0.2.1")
    assert row.details == {"reason": reason, "path": "/read"}
    assert await desk.counts("argentor_auth_failures_total") == {reason: 1}
    assert "SECRET" not in repr(row)


async def test_an_address_that_is_no_longer_listened_to_is_evidence_by_itself(desk):
    desk.refusals.throttled("2001:db8::/64")
    (row,) = await desk.seen()
    assert (row.action, row.outcome, row.address) == ("auth_throttled", "denied", "2001:db8::/64")


async def test_a_caller_without_the_scope_is_counted_and_kept_by_name(desk):
    desk.refusals.unscoped("admin", asked("/api/v1/admin/drain"), ME)
    (row,) = await desk.seen()
    assert (row.action, row.outcome, row.principal, row.tenant) == ("forbidden", "denied", "me", "acme")
    assert (row.request_id, row.details) == ("r-1", {"needs": "admin", "path": "/api/v1/admin/drain"})
    assert await desk.counts("argentor_auth_failures_total") == {"forbidden": 1}


@pytest.mark.parametrize(
    ("account", "who"),
    [
        (account_of(ME, "acme/me"), ("me", "acme")),
        (account_of(ANONYMOUS, "192.0.2.1"), ("anonymous", "default")),
    ],
)
async def test_a_caller_over_a_limit_is_counted_and_kept_with_limit_and_account(desk, account, who):
    desk.refusals.limited("minute", account)
    (row,) = await desk.seen()
    assert (row.action, row.outcome, (row.principal, row.tenant)) == ("rate_limited", "denied", who)
    assert row.details == {"policy": "minute", "account": account.key}
    assert await desk.counts("argentor_rate_limited_total") == {"minute": 1}


async def test_the_same_refusal_again_is_counted_and_written_once_with_its_number(desk):
    for _ in range(1000):
        desk.refusals.unknown("invalid", asked(), "192.0.2.1")
        desk.refusals.unscoped("admin", asked(), ME)
        desk.refusals.limited("minute", account_of(ME, "acme/me"))
        desk.refusals.throttled("192.0.2.1")
    assert sorted(row.action for row in await desk.seen()) == [
        "auth_failed",
        "auth_throttled",
        "forbidden",
        "rate_limited",
    ]
    assert await desk.counts("argentor_auth_failures_total") == {"invalid": 1000, "forbidden": 1000}
    desk.clock.pass_by(61)
    desk.audit._tell_of_floods()
    assert sorted(row.details.get("repeated", 0) for row in await desk.seen()) == [0, 0, 0, 0, 999, 999, 999, 999]


async def test_another_reason_another_address_and_another_caller_are_refusals_of_their_own(desk):
    for reason, address in (("invalid", "192.0.2.1"), ("invalid", "192.0.2.2"), ("missing", "192.0.2.1")):
        desk.refusals.unknown(reason, asked(), address)
    for principal in (ME, Principal("me"), Principal("you", "acme")):
        desk.refusals.unscoped("admin", asked(), principal)
    desk.refusals.unscoped("audit:read", asked(), ME)
    assert len(await desk.seen()) == 7


ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@settings(max_examples=5, deadline=None)
@given(sayings=st.lists(st.tuples(ANY, ANY, st.none() | ANY, ANY), min_size=5, max_size=10))
async def test_whatever_a_caller_says_of_itself_is_taken_and_cut(sayings):
    with TemporaryDirectory() as directory:
        desk = Desk(Path(directory))
        async with desk.audit:
            for path, reason, address, who in sayings:
                found = asked()
                found.scope["path"] = path
                desk.refusals.unknown(reason, found, address)
                desk.refusals.unscoped("admin", found, Principal(who))
                desk.refusals.limited(reason, account_of(Principal(who), who))
            rows = await desk.seen()
        assert len(rows) >= 3
        assert all(len(row.details.get("path", "")) <= 200 for row in rows)
        assert desk.audit.dropped == desk.audit.errors == 0
