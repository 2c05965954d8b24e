"""`argentor_asgi.gateway.outbox`: one order, two bounds, and nobody left waiting."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.gateway.outbox import ANSWERS, RUN_FRAMES, Outbox


def taken(outbox):
    frame, is_answer = outbox.next()
    outbox.done(is_answer=is_answer)
    return frame


@given(st.lists(st.booleans(), max_size=min(RUN_FRAMES, ANSWERS)))
def test_what_waits_is_sent_in_the_order_it_came_in_by_either_entrance(are_answers):
    async def scenario():
        outbox = Outbox()
        frames = [b"%d" % number for number in range(len(are_answers))]
        for frame, is_answer in zip(frames, are_answers, strict=True):
            if is_answer:
                outbox.answer(frame)
            else:
                await outbox.put(frame)
        assert outbox.answers == sum(are_answers)
        assert [taken(outbox) for _ in frames] == frames
        assert (outbox.answers, outbox.next()) == (0, None)
        await outbox.empty()

    asyncio.run(scenario())


async def test_a_frame_of_a_run_waits_for_room_and_keeps_its_place_and_an_answer_passes_it():
    outbox = Outbox()
    for _ in range(RUN_FRAMES):
        await outbox.put(b"run")
    late = [asyncio.create_task(outbox.put(name)) for name in (b"first", b"second")]
    await asyncio.sleep(0)
    outbox.answer(b"pong")
    assert [task.done() for task in late] == [False, False]
    sent = [taken(outbox) for _ in range(RUN_FRAMES)]
    await asyncio.gather(*late)
    sent += [taken(outbox) for _ in range(3)]
    assert sent[-3:] == [b"pong", b"first", b"second"]


async def test_an_answer_beyond_the_bound_is_refused_until_one_is_sent():
    outbox = Outbox()
    for _ in range(ANSWERS):
        outbox.answer(b"pong")
    with pytest.raises(asyncio.QueueFull):
        outbox.answer(b"pong")
    taken(outbox)
    outbox.answer(b"pong")


async def test_dropping_what_waits_ends_every_wait():
    outbox = Outbox()
    for _ in range(RUN_FRAMES):
        await outbox.put(b"run")
    outbox.answer(b"pong")
    waits = [asyncio.create_task(outbox.put(b"late")), asyncio.create_task(outbox.empty())]
    await asyncio.sleep(0)
    outbox.drop()
    await waits[0]
    outbox.drop()
    await waits[1]
    assert outbox.answers == 0


async def test_who_waits_for_the_end_waits_for_what_comes_meanwhile_too():
    outbox = Outbox()
    outbox.answer(b"one")
    waits = [asyncio.create_task(outbox.empty()) for _ in range(2)]
    await asyncio.sleep(0)
    taken(outbox)
    outbox.answer(b"two")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not any(task.done() for task in waits)
    taken(outbox)
    await asyncio.gather(*waits)
