import uuid as library
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skillcalls import NOW, answer, refusal

from argentor_asgi.agent.builtin_skills.uuids import _OPERATIONS, BULK, Operation, uuid4, uuid7, uuid_generator

SEVEN = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"  # RFC 9562 appendix A.6


def test_the_operations_offered_are_the_operations_there_are() -> None:
    assert set(get_args(Operation)) == set(_OPERATIONS)


@pytest.mark.parametrize("version", [4, 7])
async def test_generated_uuids_have_their_version(version: int) -> None:
    got = await answer(uuid_generator, operation="generate", version=version)
    assert library.UUID(got["uuid"]).version == got["version"] == version
    assert library.UUID(got["uuid"]).variant == library.RFC_4122


async def test_many_are_made_up_to_the_bound() -> None:
    got = await answer(uuid_generator, operation="generate_bulk", count=BULK, version=7)
    assert len(set(got["uuids"])) == got["count"] == BULK
    assert "/count" in await refusal(uuid_generator, operation="generate_bulk", count=BULK + 1)
    assert "/count" in await refusal(uuid_generator, operation="generate_bulk", count=0)


async def test_a_uuid_says_what_is_in_it() -> None:
    got = await answer(uuid_generator, operation="parse", uuid=SEVEN)
    assert (got["version"], got["variant"], got["timestamp"]) == (7, "RFC 9562", "2022-02-22T19:22:22Z")
    one = str(library.uuid1())
    assert abs(datetime.fromisoformat((await answer(uuid_generator, operation="parse", uuid=one))["timestamp"])
               - datetime.now(UTC)) < timedelta(days=1)  # fmt: skip
    for timeless in (str(library.uuid4()), "ffffffff-ffff-7fff-bfff-ffffffffffff"):
        assert "timestamp" not in await answer(uuid_generator, operation="parse", uuid=timeless)


async def test_validate_nil_and_is_nil() -> None:
    assert await answer(uuid_generator, operation="validate", uuid=SEVEN) == {"valid": True, "version": 7}
    assert await answer(uuid_generator, operation="validate", uuid="x") == {"valid": False, "version": None}
    nil = await answer(uuid_generator, operation="nil")
    assert nil == {"uuid": "00000000-0000-0000-0000-000000000000"}
    assert await answer(uuid_generator, operation="is_nil", uuid=nil["uuid"]) == {"result": True}
    assert await answer(uuid_generator, operation="is_nil", uuid=SEVEN) == {"result": False}


async def test_what_is_no_uuid_is_refused() -> None:
    assert "is not a UUID" in await refusal(uuid_generator, operation="parse", uuid="x" * 10**6)
    assert "is not a UUID" in await refusal(uuid_generator, operation="parse", uuid="0" * 32 + "{" * 33)
    assert "also needs: uuid" in await refusal(uuid_generator, operation="parse")


@given(st.binary(min_size=16, max_size=16), st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1)))  # noqa: DTZ001  made aware below
def test_uuids_carry_their_bits(entropy: bytes, moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC)
    seven = uuid7(moment, entropy)
    assert (seven.version, seven.variant) == (7, library.RFC_4122)
    assert seven.int >> 80 == int(moment.timestamp() * 1000)
    four = uuid4(entropy)
    assert (four.version, four.variant) == (4, library.RFC_4122)
    assert four == library.UUID(bytes=entropy, version=4)


def test_later_uuids_of_version_7_sort_later() -> None:
    made = [uuid7(NOW + timedelta(milliseconds=step), b"\xff" * (step % 2) * 10 + bytes(10)) for step in range(50)]
    assert sorted(made) == made
