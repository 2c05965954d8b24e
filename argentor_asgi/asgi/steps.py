"""Coroutines that are begun by hand: what ends without waiting costs neither a task nor a deadline."""

from collections.abc import Generator
from functools import partial
from types import coroutine
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Steps: TypeAlias = Generator[object, object, T]
"""A coroutine that has begun, from one wait to the next."""


@coroutine
def resumed(steps: Steps[T], waiting: object) -> Steps[T]:
    """Await the rest of a coroutine that was begun by hand and now waits for `waiting`; return its result (PEP 380)."""
    while True:
        try:
            sent = yield waiting
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:  # noqa: BLE001  whatever is thrown in is the coroutine's to handle
            step = partial(steps.throw, error)
        else:
            step = partial(steps.send, sent)
        try:
            waiting = step()
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]  # a T, as the type of `steps` says
