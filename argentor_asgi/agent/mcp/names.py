"""What a server's tools are called as skills: the same in every process, whichever server answers first."""

import re
from collections.abc import Container, Iterable, Sequence
from hashlib import sha256
from typing import Final

NAME_CHARACTERS: Final = 64
"""How long a skill's name may be, as providers of models take it."""
MARK_CHARACTERS: Final = 8
"""How many hex digits tell names apart that would be the same."""

_OTHER = re.compile(r"[^A-Za-z0-9_-]")


def slug(name: str) -> str:
    """Return the name with every character that no provider takes replaced by `_`."""
    return _OTHER.sub("_", name)


def ambiguous(servers: Sequence[str]) -> frozenset[str]:
    """Return the servers whose skills could be named as an earlier one's, such as `a_b` behind `a`.

    The skills of these all carry a mark, so that no name depends on which server answers first.
    """
    heads = [f"{slug(server)}_" for server in servers]
    return frozenset(
        server
        for at, server in enumerate(servers)
        if any(heads[at].startswith(head) or head.startswith(heads[at]) for head in heads[:at])
    )


def skill_names(
    server: str, tools: Iterable[str], *, taken: Container[str] = (), is_marked: bool = False
) -> dict[str, str]:
    """Return for each tool the name of its skill: `<server>_<tool>`, in characters and of a length that providers take.

    A name that is too long, in `taken`, or another tool's as well ends in a mark, made of server and tool alone; with
    `is_marked` every name does. Of two tools the one whose name needs no replacing keeps it. Every name begins with
    its server's, as far as that fits. Leaves out a tool whose marked name is taken too.
    """
    names: dict[str, str] = {}
    given: set[str] = set()
    for tool in sorted(set(tools), key=lambda tool: (slug(tool) != tool, tool)):
        plain, marked = f"{slug(server)}_{slug(tool)}", _marked(server, tool)
        fits = not is_marked and len(plain) <= NAME_CHARACTERS
        for name in (plain, marked) if fits else (marked,):
            if name not in given and name not in taken:
                names[tool] = name
                given.add(name)
                break
    return names


def _marked(server: str, tool: str) -> str:
    mark = sha256(f"{server}\0{tool}".encode("utf-8", "surrogatepass")).hexdigest()[:MARK_CHARACTERS]
    return f"{slug(server)}_{slug(tool)}"[: NAME_CHARACTERS - MARK_CHARACTERS - 1] + f"_{mark}"
