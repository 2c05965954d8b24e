"""The skills `memory_*`: what the user wants remembered, found by its words, always in the scope of who calls.

The scope comes from the context, never from an argument: no prompt reaches another owner's or tenant's notes.
"""

import json
from typing import Annotated

from argentor_asgi.agent.builtin_skills.operations import refuse_longer
from argentor_asgi.agent.builtin_skills.uuids import new_uuid7
from argentor_asgi.agent.skills import FunctionSkill, SkillContext, SkillRefused, skill
from argentor_asgi.protocol.schema import JsonObject, Meta
from argentor_asgi.sessions.records import NOTES_PER_SCOPE, Note
from argentor_asgi.sessions.store import NoteStore

NOTE_BYTES = 4096
"""The longest note, in UTF-8."""
METADATA_BYTES = 1024
"""The most metadata a note may have, as JSON."""
QUERY_BYTES = 4096
"""The longest query, in UTF-8."""
FOUND = 20
"""How many notes a search returns at most."""
LISTED = 40
"""How many notes, the newest ones, a list shows; its `total` counts all."""

Query = Annotated[str, Meta(min_length=1, description="Words of the note, in any order.")]


def memory_skills(notes: NoteStore) -> list[FunctionSkill]:
    """Return the four memory skills over `notes`."""
    return [_store(notes), _search(notes), _list(notes), _forget(notes)]


def _store(notes: NoteStore) -> FunctionSkill:
    @skill(
        "memory_store",
        "Remembers a fact the user wants kept, across conversations. Write it as a full sentence.",
        effect="write",
        parallel_safe=False,
    )
    async def memory_store(
        content: Annotated[str, Meta(description="The fact, as a sentence.")],
        context: SkillContext,
        metadata: Annotated[JsonObject | None, Meta(description="Anything to keep with it.")] = None,
    ) -> JsonObject:
        """Return `{"stored": true, "id"}`; refuses an empty or long note, and a full store."""
        text = content.strip()
        if not text:
            raise SkillRefused("There is nothing to remember: content is empty.")
        refuse_longer(text, NOTE_BYTES, "content")
        refuse_longer(json.dumps(metadata or {}), METADATA_BYTES, "metadata")
        note = Note(str(new_uuid7(context.now)), text, context.now, metadata or {})
        if not await notes.add_note(context.scope, note):
            raise SkillRefused(f"The memory is full: it keeps {NOTES_PER_SCOPE} notes. Forget some first.")
        return {"stored": True, "id": note.id}

    return memory_store


def _search(notes: NoteStore) -> FunctionSkill:
    @skill("memory_search", "Finds what was remembered, by its words, best match first.")
    async def memory_search(
        query: Query,
        context: SkillContext,
        top_k: Annotated[int, Meta(ge=1, le=FOUND, description="How many to return.")] = 5,
    ) -> JsonObject:
        """Return `{"results": [{"id", "content", "created_at", "score"}], "total"}`; total counts every match."""
        refuse_longer(query, QUERY_BYTES, "query")
        found, total = await notes.search_notes(context.scope, query, limit=top_k)
        return {"results": [{**_shown(note), "score": round(score, 4)} for note, score in found], "total": total}

    return memory_search


def _list(notes: NoteStore) -> FunctionSkill:
    @skill("memory_list", f"Lists what was remembered, newest first, up to {LISTED} notes.")
    async def memory_list(context: SkillContext) -> JsonObject:
        """Return `{"memories": [{"id", "content", "created_at"}], "total"}`."""
        kept = await notes.notes(context.scope)
        return {"memories": [_shown(note) for note in kept[::-1][:LISTED]], "total": len(kept)}

    return memory_list


def _forget(notes: NoteStore) -> FunctionSkill:
    @skill(
        "memory_forget",
        "Forgets one note: that with the id, or the one that matches the query best.",
        effect="write",
        parallel_safe=False,
    )
    async def memory_forget(
        context: SkillContext,
        id: Annotated[str | None, Meta(description="The note's id.")] = None,  # noqa: A002  the argument's name on the wire
        query: Query | None = None,
    ) -> JsonObject:
        """Return `{"forgotten": N, "memories"}`, N being 0 or 1, with the note that a query chose."""
        if id is not None:
            return {"forgotten": int(await notes.delete_note(context.scope, id)), "memories": []}
        if query is None:
            raise SkillRefused("memory_forget needs: id or query.")
        refuse_longer(query, QUERY_BYTES, "query")
        found, _ = await notes.search_notes(context.scope, query, limit=1)
        gone = [note for note, _ in found if await notes.delete_note(context.scope, note.id)]
        return {"forgotten": len(gone), "memories": [_shown(note) for note in gone]}

    return memory_forget


def _shown(note: Note) -> JsonObject:
    return {"id": note.id, "content": note.content, "created_at": note.created_at}
