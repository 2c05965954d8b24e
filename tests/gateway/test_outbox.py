"""`argentor_asgi.gateway.outbox`: one order, two bounds, and nobody left waiting."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.gateway.outbox import ANSWERS, RUN_FRAMES, Outbox


async def taken(outbox):
    frame, is_answer = await outbox.next()
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
        assert [await taken(outbox) for _ in frames] == frames
        assert outbox.answers == 0
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
    sent = [await taken(outbox) for _ in range(RUN_FRAMES + 3)]
    assert sent[-3:] == [b"pong", b"first", b"second"]
    await asyncio.gather(*late)


async def test_an_answer_beyond_the_bound_is_refused_until_one_is_sent():
    outbox = Outbox()
    for _ in range(ANSWERS):
        outbox.answer(b"pong")
    with pytest.raises(asyncio.QueueFull):
        outbox.answer(b"pong")
    await taken(outbox)
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
