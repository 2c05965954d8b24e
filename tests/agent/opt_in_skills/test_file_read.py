import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skillcalls import answer, refusal

from argentor_asgi.agent.opt_in_skills.file_read import READ_BYTES, file_read_skill, opened, reason, walked
from argentor_asgi.agent.policy import Allow, Deny, Policy
from argentor_asgi.agent.skills import OUTPUT_BYTES, SkillRefused
from argentor_asgi.agent_sections import Agent, Capabilities


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    made = tmp_path / "docs"
    (made / "deep").mkdir(parents=True)
    (made / "a.txt").write_text("an apple")
    (made / "deep" / "b.txt").write_text("a \u20ac bee")
    (tmp_path / "secret").write_text("the key")
    return made


def read(root: Path | str, path: Path | str) -> bytes:
    with opened((str(root),), str(path)) as file:
        return os.read(file, 100)


async def test_a_file_is_read(docs: Path) -> None:
    assert await answer(file_read_skill((str(docs),)), path=f"{docs}/deep/b.txt") == {
        "path": f"{docs}/deep/b.txt",
        "text": "a \u20ac bee",
        "offset": 0,
        "bytes": 9,
        "size": 9,
        "next_offset": None,
    }


async def test_a_file_is_read_in_pieces_without_cutting_a_character(docs: Path) -> None:
    skill, path, offset, pieces = file_read_skill((str(docs),)), f"{docs}/deep/b.txt", 0, []
    while offset is not None:
        got = await answer(skill, path=path, offset=offset, max_bytes=4)
        pieces.append(got["text"])
        offset = got["next_offset"]
    assert pieces == ["a ", "\u20ac ", "bee"]


async def test_a_piece_behind_the_end_is_empty(docs: Path) -> None:
    got = await answer(file_read_skill((str(docs),)), path=f"{docs}/a.txt", offset=100)
    assert (got["text"], got["next_offset"]) == ("", None)


async def test_what_is_no_text_is_replaced(docs: Path) -> None:
    (docs / "odd").write_bytes(b"a\xff\xfeb\xe2\x82")
    got = await answer(file_read_skill((str(docs),)), path=f"{docs}/odd")
    assert got["text"] == "a\ufffd\ufffdb\ufffd"


async def test_a_call_reads_so_much_and_no_more(docs: Path) -> None:
    """agent.md 1.10 D12: a result has a size."""
    (docs / "large").write_bytes(b"x" * (READ_BYTES + 1))
    skill = file_read_skill((str(docs),))
    got = await answer(skill, path=f"{docs}/large", max_bytes=READ_BYTES)
    assert got["bytes"] == len(got["text"]) == got["next_offset"] < OUTPUT_BYTES
    assert "argument validation failed" in await refusal(skill, path=f"{docs}/large", max_bytes=READ_BYTES + 1)


async def test_what_cannot_be_read_is_said_without_other_paths(docs: Path) -> None:
    skill = file_read_skill((str(docs),))
    assert await refusal(skill, path=f"{docs}/none") == f"'{docs}/none' cannot be read: there is no such file."
    assert "no directory" in await refusal(skill, path=f"{docs}/a.txt/b")
    assert "is a directory" in await refusal(skill, path=f"{docs}/deep")
    assert "is a directory" in await refusal(skill, path=str(docs))
    assert await refusal(skill, path="a.txt") == "Permission denied: the path is not absolute."
    assert (await refusal(skill, path=f"{docs}/{'x' * 300}")).endswith("cannot be read: file name too long.")


def test_a_file_without_the_right_to_it_is_said() -> None:
    assert reason(PermissionError(13, "Permission denied")) == "the gateway has no right to"


@pytest.mark.parametrize("path", ["../secret", "deep/../../secret", "out", "up/secret", "deep/out", "/etc/passwd"])
async def test_nothing_outside_is_read(docs: Path, path: str) -> None:
    (docs / "out").symlink_to("../secret")
    (docs / "up").symlink_to("..")
    (docs / "deep" / "out").symlink_to(docs.parent / "secret")
    got = await refusal(file_read_skill((str(docs),)), path=str(docs / path))
    assert got.startswith("Permission denied: the path")


def test_a_link_to_the_inside_is_followed(docs: Path) -> None:
    (docs / "in").symlink_to("deep/b.txt")
    (docs / "way").symlink_to("deep")
    assert read(docs, docs / "in") == read(docs, docs / "way" / "b.txt") == "a \u20ac bee".encode()


def test_a_granted_file_is_that_file_alone(docs: Path) -> None:
    assert read(docs / "a.txt", docs / "a.txt") == b"an apple"
    with pytest.raises(SkillRefused):
        read(docs / "a.txt", docs / "deep" / "b.txt")


def test_a_granted_directory_may_be_a_link(docs: Path) -> None:
    (docs.parent / "current").symlink_to("docs")
    assert read(docs.parent / "current", docs.parent / "current" / "a.txt") == b"an apple"


def test_the_whole_file_system_may_be_granted(docs: Path) -> None:
    assert read("/", docs / "a.txt") == b"an apple"


@pytest.mark.parametrize("swapped", ["docs/deep", "docs/deep/b.txt", "docs"])
def test_what_was_swapped_for_a_link_after_it_was_judged_is_an_error(docs: Path, swapped: str) -> None:
    place = docs.parent / swapped
    place.rename(docs.parent / "moved")
    place.symlink_to(docs.parent / "moved")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        walked(str(docs), f"{docs}/deep/b.txt")


@pytest.mark.slow
def test_no_swap_in_the_middle_leads_out(docs: Path) -> None:
    """Another thread exchanges a directory and a link to the outside all the while."""
    outside = docs.parent / "outside"
    outside.mkdir()
    (outside / "b.txt").write_text("the key")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (docs / "deep").rename(docs / "kept")
            (docs / "deep").symlink_to(outside)
            (docs / "deep").unlink()
            (docs / "kept").rename(docs / "deep")

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for _ in range(2000):
            try:
                seen.add(read(docs, docs / "deep" / "b.txt"))
            except (OSError, SkillRefused):
                seen.add(b"refused")
    finally:
        stop.set()
        swapping.join()
    assert seen <= {b"refused", "a \u20ac bee".encode()}


def test_a_pipe_is_refused_at_once(docs: Path) -> None:
    os.mkfifo(docs / "pipe")
    with pytest.raises(SkillRefused, match="no regular file"):
        read(docs, docs / "pipe")


def test_a_device_and_a_socket_are_refused(docs: Path) -> None:
    with pytest.raises(SkillRefused, match="no regular file"):
        read("/dev", "/dev/zero")
    os.mknod(docs / "socket", 0o140600)
    with pytest.raises(OSError, match="No such device or address"):
        read(docs, docs / "socket")


def test_no_descriptor_is_left_open(docs: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("a.txt", "deep/b.txt", "deep", "none", "deep/none", "a.txt/b", "../secret"):
        try:
            read(docs, docs / path)
        except (OSError, SkillRefused):
            continue
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["..", ".", "deep", "a.txt", "b.txt", "out", "up", "docs"]), min_size=1, max_size=6))
def test_no_path_reads_the_secret(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    base = tmp_path_factory.getbasetemp() / "tree"
    docs = base / "docs"
    if not base.exists():
        (docs / "deep").mkdir(parents=True)
        (docs / "a.txt").write_text("an apple")
        (base / "b.txt").write_text("the key")
        (docs / "out").symlink_to("../b.txt")
        (docs / "deep" / "up").symlink_to("../..")
    try:
        assert read(docs, "/".join([str(docs), *parts])) == b"an apple"
    except (OSError, SkillRefused):
        return


def test_the_policy_checks_the_path_before(docs: Path) -> None:
    skill = file_read_skill((str(docs),))
    policy = Policy(Agent(), Capabilities(file_read=(str(docs),)))
    assert policy.judge(skill.descriptor, {"path": f"{docs}/a.txt"}) == Allow()
    assert isinstance(policy.judge(skill.descriptor, {"path": f"{docs}/../secret"}), Deny)
    assert isinstance(Policy(Agent(), Capabilities()).judge(skill.descriptor, {"path": f"{docs}/a.txt"}), Deny)


def test_the_model_is_told_where_it_may_read(docs: Path) -> None:
    assert str(docs) in file_read_skill((str(docs),)).descriptor.description
