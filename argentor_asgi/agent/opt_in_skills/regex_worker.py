"""The program that a worker of the skill `regex` is: it matches in a process that can be killed.

One JSON object a line in, one out; first a line says that it is ready. Started by its path and isolated, so that it
imports nothing but the standard library, and holds none of what the gateway knows. It ends with its input, and by
itself when it works on one line for longer than anybody waits.
"""

import json
import re
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

MEMORY_BYTES = 512 * 1024 * 1024
"""How much address space a worker has: a pattern may want more than its text."""
LIFE_S = 1.0
"""After how long on one line a worker ends itself, should whoever would have killed it be gone."""
RESULT_CHARS = 128 * 1024
"""How long all texts that are returned may be, together."""

_FLAGS = {"ignore_case": re.IGNORECASE, "multiline": re.MULTILINE, "dot_all": re.DOTALL, "ascii": re.ASCII}


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: `limit` is the most matches or parts to return, `count` the most to replace, None for all."""

    operation: str
    pattern: str
    flags: list[str]
    text: str
    replacement: str
    limit: int
    count: int | None


class _TooLong(Exception):
    """The result would be longer than `RESULT_CHARS`."""


def answer(request: Request) -> dict[str, object]:
    """Return `{"result": ...}` of one request, or `{"error": words}` for a wrong pattern or too large a result."""
    try:
        flags = sum(_FLAGS[name] for name in set(request.flags))
        return {"result": _OPERATIONS[request.operation](re.compile(request.pattern, flags), request)}
    except (re.error, IndexError) as error:
        if request.operation == "validate":
            return {"result": {"valid": False, "error": str(error)}}
        return {"error": f"The pattern or the replacement is wrong: {error}."}
    except (OverflowError, RecursionError, MemoryError):
        return {"error": "The pattern or its result is too large."}
    except _TooLong:
        return {"error": f"The result is too long: at most {RESULT_CHARS} characters are returned."}


def _validate(pattern: re.Pattern[str], _: Request) -> dict[str, object]:
    return {"valid": True, "groups": pattern.groups, "names": list(pattern.groupindex)}


def _match(pattern: re.Pattern[str], request: Request) -> dict[str, object]:
    found = pattern.search(request.text)
    if found is None:
        return {"matched": False}
    _within(_chars(found))
    return {"matched": True, **_shown(found)}


def _find_all(pattern: re.Pattern[str], request: Request) -> dict[str, object]:
    matches = list[dict[str, object]]()
    total = chars = 0
    for found in pattern.finditer(request.text):
        total += 1
        if total <= request.limit:
            chars = _within(chars + _chars(found))
            matches.append(_shown(found))
    return {"matches": matches, "total": total}


def _replace(pattern: re.Pattern[str], request: Request) -> dict[str, object]:
    text, made = request.text, list[str]()
    end = chars = count = 0
    for found in islice(pattern.finditer(text), request.count):
        made += [text[end : found.start()], found.expand(request.replacement)]
        chars = _within(chars + len(made[-1]) + len(made[-2]))
        end, count = found.end(), count + 1
    _within(chars + len(text) - end)
    return {"text": "".join([*made, text[end:]]), "count": count}


def _split(pattern: re.Pattern[str], request: Request) -> dict[str, object]:
    _within(len(request.text))
    cuts = [0, *(at for found in _cutting(pattern, request) for at in found.span()), len(request.text)]
    return {"parts": [request.text[start:end] for start, end in zip(cuts[::2], cuts[1::2], strict=True)]}


def _cutting(pattern: re.Pattern[str], request: Request) -> Iterator[re.Match[str]]:
    return islice(pattern.finditer(request.text), request.limit - 1)


_OPERATIONS = {"validate": _validate, "match": _match, "find_all": _find_all, "replace": _replace, "split": _split}


def _shown(found: re.Match[str]) -> dict[str, object]:
    """Return a match: its text, where it is in code points, its groups."""
    return {
        "text": found[0],
        "start": found.start(),
        "end": found.end(),
        "groups": list(found.groups()),
        "named": found.groupdict(),
    }


def _chars(found: re.Match[str]) -> int:
    return len(found[0]) + sum(len(group) for group in found.groups() if group) * 2


def _within(chars: int) -> int:
    if chars > RESULT_CHARS:
        raise _TooLong
    return chars


def main() -> None:
    """Answer line by line until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _say({})
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_REAL, LIFE_S)
        _say(answer(Request(**json.loads(line))))
        signal.setitimer(signal.ITIMER_REAL, 0)


def _say(said: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
