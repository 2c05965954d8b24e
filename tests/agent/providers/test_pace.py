"""How streams that have much to say share the loop with each other and with everybody else."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.agent.providers.pace import LET_IN, PIECES, STRETCH_S, Pace, Place


class Workers:
    """Tasks whose work takes time by a clock of their own. `done`: which of them worked in each turn of the loop."""

    def __init__(self, work_s: float) -> None:
        self.work_s = work_s
        self.now = 0.0
        self.pace = Pace(lambda: self.now)
        self.done: list[list[int]] = [[]]

    async def work(self, number: int, steps: int) -> None:
        place = Place(self.pace)
        for _ in range(steps):
            await place.step()
            self.now += self.work_s
            self.done[-1].append(number)

    async def count_turns(self) -> None:
        while True:
            self.done.append([])
            await asyncio.sleep(0)

    async def all_of(self, many: int, steps: int) -> None:
        counting = asyncio.create_task(self.count_turns())
        await asyncio.gather(*(self.work(number, steps) for number in range(many)))
        counting.cancel()


@given(st.integers(1, 30), st.integers(1, 10), st.floats(0.0001, 0.02))
def test_in_one_turn_of_the_loop_streams_work_for_a_stretch_and_a_few_that_waited(many, steps, work_s):
    workers = Workers(work_s)
    asyncio.run(workers.all_of(many, steps))
    assert sum(map(len, workers.done)) == many * steps
    assert all(len(turn) <= STRETCH_S / work_s + (1 + LET_IN) * PIECES + 1e-6 for turn in workers.done)


@given(st.integers(2, 30))
def test_who_waits_is_served_in_order(many):
    workers = Workers(STRETCH_S)
    asyncio.run(workers.all_of(many, 1))
    assert [number for turn in workers.done for number in turn] == list(range(many))


async def test_what_is_there_is_worked_on_in_one_go_for_a_few_pieces():
    workers = Workers(STRETCH_S)
    await workers.all_of(2, PIECES + 1)
    assert [turn for turn in workers.done if turn] == [[0] * PIECES, [0] + [1] * PIECES, [1]]


async def test_who_is_alone_waits_for_nobody():
    workers = Workers(0.0)
    await workers.work(0, 1000)
    assert workers.done == [[0] * 1000]


async def test_who_is_cancelled_while_waiting_leaves_the_others_going():
    workers = Workers(STRETCH_S)
    await workers.work(0, 1)
    waiting = [asyncio.create_task(workers.work(number, 1)) for number in (1, 2, 3)]
    waiting[1].cancel()
    assert [type(found) for found in await asyncio.gather(*waiting, return_exceptions=True)] == [
        type(None),
        asyncio.CancelledError,
        type(None),
    ]
    assert [number for turn in workers.done for number in turn] == [0, 1, 3]
