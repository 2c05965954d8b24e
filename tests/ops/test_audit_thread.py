import asyncio
import threading

import pytest

from argentor_asgi.ops.audit_thread import Worker


async def test_work_is_done_in_order_in_one_thread():
    worker, done = Worker("test-worker"), []
    calls = [worker.submit(lambda number=number: done.append((number, threading.get_ident()))) for number in range(50)]
    await asyncio.gather(*calls)
    worker.stop()
    assert [number for number, _ in done] == list(range(50))
    assert len({thread for _, thread in done} - {threading.get_ident()}) == 1


async def test_what_work_raises_its_caller_hears_and_the_thread_lives_on():
    worker = Worker("test-worker")
    with pytest.raises(ZeroDivisionError):
        await worker.submit(lambda: 1 // 0)
    assert await worker.submit(lambda: 5) == 5
    worker.stop()


async def test_cancelled_work_is_done_all_the_same():
    worker, gate, done = Worker("test-worker"), threading.Event(), []
    first = worker.submit(gate.wait)
    second = worker.submit(lambda: done.append(1))
    second.cancel()
    gate.set()
    await first
    await worker.submit(lambda: None)
    worker.stop()
    assert done == [1]


def test_work_that_outlives_its_loop_ends_quietly():
    gate, ended = threading.Event(), threading.Event()

    async def begin():
        worker = Worker("test-worker")
        worker.submit(gate.wait)
        worker.submit(ended.set)
        worker.stop()

    asyncio.run(begin())
    gate.set()
    assert ended.wait(5)
