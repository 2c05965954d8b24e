import json
import subprocess
import sys

import pytest

from bench import children, modelled, ours, sse, sseload
from bench.calls import HEADERS
from bench.children import Served
from bench.harness import Series
from bench.load import BadAnswer
from bench.sseload import Wanted

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def ours_of(*texts, last="done"):
    """Return a stream of ours as an answer in chunks, cut in odd places."""
    events = [*(("text", {"type": "text", "text": text, "token_index": 0}) for text in texts), (last, {"type": last})]
    body = b"".join(
        b"id: r:%d\nevent: %b\ndata: %b\n\n" % (seq, name.encode(), json.dumps(data).encode())
        for seq, (name, data) in enumerate(events, 1)
    )
    chunks = [body[at : at + 7] for at in range(0, len(body), 7)]
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def test_an_answer_of_the_model_says_its_pieces_and_its_end():
    sent = b"".join(modelled.frames(modelled.pieces(3, "me")))
    events = sseload.blocks(HEAD + sent)
    assert sseload.text(events) == "me lorem me ipsum me dolor "
    assert sseload.follow(events)
    assert events[-1] == b"data: [DONE]"


def test_a_stream_of_ours_is_read_wherever_its_chunks_are_cut():
    events = sseload.blocks(ours_of("a", "b"))
    assert (sseload.text(events), sseload.follow(events)) == ("ab", True)


def test_a_stream_that_lacks_an_event_or_its_end_is_found_out():
    events = sseload.blocks(ours_of("a", "b", "c"))
    assert not sseload.follow([*events[:1], *events[2:]])
    assert not sseload.follow(events[:-1])
    assert not sseload.follow(sseload.blocks(ours_of("a", last="error")))


@pytest.mark.parametrize("answer", [ours_of("a")[:-9], ours_of("a")[:-5], HEAD[:-2], HEAD.replace(b"200", b"503")])
def test_what_is_no_whole_stream_is_not_counted(answer):
    with pytest.raises(BadAnswer):
        sseload.blocks(answer)


def test_a_shape_has_as_many_pieces_as_the_time_allows():
    assert sse.Shape(1, 500.0).wanted(2.0) == Wanted(1000, 500.0)
    assert sse.Shape(1, 40.0, is_paced=False).wanted(0.01) == Wanted(5, 0.0)


def test_many_runs_are_held_to_a_loop_on_time_and_to_lose_nothing():
    group = f"hypercorn uvloop: {sse.RUNS}"
    series = [Series(group, ours.NAME, "lacking", (0.0, 1.0)), Series(group, ours.NAME, "lag_p99_ms", (49.0,))]
    found = {goal.words: goal.verdict for goal in sse.goals(series, "uvloop")}
    assert found[f"{group}, {ours.NAME}: incomplete streams"] == "MISSED"
    assert found[f"{group}, {ours.NAME}: p99 of the loop, ms"] == "met"
    assert set(found.values()) == {"MISSED", "met", "not measured"}


@pytest.mark.slow
async def test_the_bare_callable_passes_every_event_on():
    cores, _ = children.split_cores()
    with children.serving(Served("models", "", {}), sse.MODELS, cores) as models:
        bare = sse.apps(models.port)[0]
        with children.serving(bare, children.hypercorn("asyncio"), cores) as child:
            found = await sseload.streams(child.port, "/api/v1/chat/stream", HEADERS, Wanted(7, 100.0), ["one", "two"])
    assert (found.events, found.lacking) == (2 * (7 + 4), 0)


@pytest.mark.slow
def test_sse_measures_the_gateway_beside_a_bare_pass_through(tmp_path):
    out = tmp_path / "report.json"
    done = subprocess.run(  # noqa: S603  our own interpreter and our own bench
        [sys.executable, "-m", "bench", "sse", "--rounds", "1", "--seconds", "0.1", "--runs", "4", "--json", str(out)],
        cwd=children.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert {series["target"] for series in report["series"]} == {"bare", ours.NAME, f"{ours.NAME} {sse.GUARDED}"}
    assert sum(sum(series["rounds"]) for series in report["series"] if series["metric"] == "lacking") == 0
    assert "goal: hypercorn asyncio: many runs, argentor: incomplete streams: 0.00" in done.stdout
