"""Where guardrails look at texts: short ones at once, long ones in one thread, one after the other."""

import asyncio
import threading

from argentor_asgi.agent.findings import LARGE_CHARS, looked_at
from argentor_asgi.agent.guardrails import Seen


async def test_a_short_text_is_looked_at_where_it_is_and_long_ones_in_one_thread():
    where: list[int] = []

    def look(text: str) -> Seen:
        where.append(threading.get_ident())
        return Seen(text, (), is_blocked=False)

    short, long = "a" * (LARGE_CHARS - 1), "a" * LARGE_CHARS
    assert (await looked_at(look, short)).text == short
    seen = await asyncio.gather(*(looked_at(look, long) for _ in range(9)))
    assert {each.text for each in seen} == {long}
    here, *others = where
    assert here == threading.get_ident()
    assert len(others) == 9
    assert len(set(others)) == 1
    assert here not in others
