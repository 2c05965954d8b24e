"""The skill `diff`: compares two texts by lines, words or characters, and applies a unified diff."""

import re
from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import Annotated, Literal

from argentor_asgi.agent.builtin_skills.edits import Edit, edits
from argentor_asgi.agent.builtin_skills.operations import Operations, perform, present, refuse_longer
from argentor_asgi.agent.skills import SkillRefused, skill
from argentor_asgi.protocol.schema import JsonObject, Meta

TEXT_BYTES = 256 * 1024
"""The longest text or patch, in UTF-8."""
CHAR_DIFF_BYTES = 8 * 1024
"""The longest text of `char_diff`, in UTF-8."""
CONTEXT_LINES = 3
"""How many unchanged lines stand around a change."""

Operation = Literal["diff", "patch", "stats", "word_diff", "char_diff"]

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+\d{1,9}(?:,\d{1,9})? @@.*", re.ASCII)
_NO_NEWLINE = "\\ No newline at end of file"
_SIGNS = {"same": " ", "removed": "-", "added": "+"}
_MARKS = {"same": ("", ""), "removed": ("[-", "-]"), "added": ("{+", "+}")}


@skill(
    "diff",
    "Compares two texts: unified diff by lines, changes by words or characters, counts; or applies a unified diff.",
    thread=True,
)
def diff_skill(
    *,
    operation: Annotated[Operation, Meta(description="What to do.")],
    old: Annotated[str, Meta(description="The text before; patch changes it.")],
    new: Annotated[str | None, Meta(description="The text after; all but patch need it.")] = None,
    patch: Annotated[str | None, Meta(description="The unified diff that patch applies.")] = None,
) -> JsonObject:
    """Return the diff with its counts, or `{"result"}` of patch, which refuses what does not fit exactly."""
    given = present(old=old, new=new, patch=patch)
    for name, text in given.items():
        refuse_longer(text, CHAR_DIFF_BYTES if operation == "char_diff" else TEXT_BYTES, name)
    return dict(perform(_OPERATIONS, operation, given))


def unified(old: str, new: str) -> str:
    """Return the unified diff (POSIX diff -u, without file names) that makes `new` of `old`; empty for equal texts."""
    found = _by_lines(old, new)
    olds = [0, *accumulate(edit.kind != "added" for edit in found)]
    news = [0, *accumulate(edit.kind != "removed" for edit in found)]
    return "".join(_hunk(found[low:high], olds[low], news[low]) for low, high in _hunks(found))


def patched(old: str, patch: str) -> str:
    """Return `old` with a unified diff applied; raises `SkillRefused` where a line is not what the diff says."""
    source, made, at = _lines(old), list[str](), 0
    for start, lines in _read_patch(patch):
        if not at <= start <= len(source):
            raise SkillRefused(f"The patch does not fit: it changes line {start + 1}, which is not there.")
        made.extend(source[at:start])
        at = start
        for sign, line in lines:
            if sign != "+":
                _must_be(source, at, line)
                at += 1
            if sign != "-":
                made.append(line)
    return "".join([*made, *source[at:]])


def _diff(old: str, new: str) -> JsonObject:
    return {"diff": unified(old, new), **_stats(old, new)}


def _stats(old: str, new: str) -> JsonObject:
    return {**_counts(_by_lines(old, new), "lines"), "identical": old == new}


def _patch(old: str, patch: str) -> JsonObject:
    return {"result": patched(old, patch)}


def _word_diff(old: str, new: str) -> JsonObject:
    pieces = edits(re.findall(r"\s+|\w+|[^\w\s]", old), re.findall(r"\s+|\w+|[^\w\s]", new))
    return {"diff": _marked(pieces), **_counts([piece for piece in pieces if not piece.text.isspace()], "words")}


def _char_diff(old: str, new: str) -> JsonObject:
    pieces = edits(old, new)
    return {"diff": _marked(pieces), **_counts(pieces, "chars")}


_OPERATIONS: Operations = {
    "diff": _diff,
    "patch": _patch,
    "stats": _stats,
    "word_diff": _word_diff,
    "char_diff": _char_diff,
}


def _by_lines(old: str, new: str) -> list[Edit]:
    return edits(_lines(old), _lines(new))


def _lines(text: str) -> list[str]:
    """Return the lines with their line feeds; no other character ends a line of a diff."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


def _counts(found: Sequence[Edit], what: str) -> JsonObject:
    """Return how many were added, removed and kept, and the share that both have: 1.0 for equal texts."""
    added, removed, same = (sum(edit.kind == kind for edit in found) for kind in ("added", "removed", "same"))
    similarity = round(2 * same / (2 * same + added + removed), 4) if found else 1.0
    return {f"{what}_added": added, f"{what}_removed": removed, f"{what}_unchanged": same, "similarity": similarity}


def _marked(found: Sequence[Edit]) -> str:
    """Return the text with [-removed-] and {+added+} in it."""
    runs = ((kind, "".join(edit.text for edit in run)) for kind, run in groupby(found, key=lambda edit: edit.kind))
    return "".join(f"{_MARKS[kind][0]}{text}{_MARKS[kind][1]}" for kind, text in runs)


def _hunks(found: Sequence[Edit]) -> list[tuple[int, int]]:
    """Return from which edit to which each change goes, with its context; changes whose contexts touch are one."""
    spans: list[tuple[int, int]] = []
    for at in (at for at, edit in enumerate(found) if edit.kind != "same"):
        low, high = max(0, at - CONTEXT_LINES), min(len(found), at + CONTEXT_LINES + 1)
        if spans and low <= spans[-1][1]:
            spans[-1] = (spans[-1][0], high)
        else:
            spans.append((low, high))
    return spans


def _hunk(lines: Sequence[Edit], old_at: int, new_at: int) -> str:
    """Return one hunk; `old_at` and `new_at`: how many lines of each text come before it."""
    olds, news = (sum(edit.kind != other for edit in lines) for other in ("added", "removed"))
    body = "".join(_line(_SIGNS[edit.kind] + edit.text) for edit in lines)
    return f"@@ -{_range(old_at, olds)} +{_range(new_at, news)} @@\n{body}"


def _range(before: int, count: int) -> str:
    """Return a range of lines from 1 on; an empty one is numbered by the line before it (POSIX diff)."""
    first = before + 1 if count else before
    return str(first) if count == 1 else f"{first},{count}"


def _line(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n{_NO_NEWLINE}\n"


def _read_patch(patch: str) -> list[tuple[int, list[tuple[str, str]]]]:
    """Return each hunk as how many old lines come before it, and its lines with their signs."""
    hunks: list[tuple[int, list[tuple[str, str]]]] = []
    for line in _lines(patch):
        if head := _HUNK.match(line):
            hunks.append((max(0, int(head[1]) - (head[2] != "0")), []))
        elif hunks:
            _add_line(hunks[-1][1], line)
        elif not line.startswith(("---", "+++", "diff ", "index ")):
            raise SkillRefused("The patch is not a unified diff: it has no @@ line.")
    return hunks


def _add_line(lines: list[tuple[str, str]], line: str) -> None:
    if line.startswith("\\") and lines:
        sign, last = lines[-1]
        lines[-1] = sign, last.removesuffix("\n")
    elif line[0] in "+- ":
        lines.append((line[0], line[1:]))
    elif line == "\n":
        lines.append((" ", line))
    else:
        raise SkillRefused(f"The patch is not a unified diff: {line[:80]!r} has no sign.")


def _must_be(source: Sequence[str], at: int, line: str) -> None:
    if at >= len(source) or source[at] != line:
        raise SkillRefused(f"The patch does not fit: line {at + 1} is not {line[:80]!r}.")
