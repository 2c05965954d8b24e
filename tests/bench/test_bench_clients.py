import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage
from wsproto.frame_protocol import FrameProtocol, Opcode

from bench import load, wsload
from bench.bare import BODY
from bench.load import BadAnswer
from bench.wsload import BadFrame

ANSWER = b"HTTP/1.1 200 \r\ncontent-type: application/json\r\nContent-Length: 4\r\n\r\nbody"


def test_an_answer_is_cut_off_the_front():
    assert load.cut(ANSWER + b"HTTP/1.1") == (b"body", False, len(ANSWER))


@given(st.integers(min_value=0, max_value=len(ANSWER) - 1))
def test_an_answer_that_is_not_all_there_is_awaited(length):
    assert load.cut(ANSWER[:length]) is None


def test_a_server_that_closes_is_noticed():
    assert load.cut(ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")) == (b"body", True, len(ANSWER) + 19)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 503 \r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n"]
)
def test_an_answer_that_is_not_a_framed_200_is_refused(answer):
    with pytest.raises(BadAnswer):
        load.cut(answer)


@given(st.text(max_size=70_000 // 4))
def test_a_server_reads_what_the_client_frames(text):
    server = Connection(ConnectionType.SERVER)
    server.receive_data(wsload.frame(wsload.TEXT, text.encode()))
    assert "".join(event.data for event in server.events() if isinstance(event, TextMessage)) == text


@given(st.binary(max_size=300), st.sampled_from([0, 126, 70_000]))
def test_the_client_reads_what_a_server_frames(payload, more):
    payload += bytes(more)
    sent = FrameProtocol(client=False, extensions=[])._serialize_frame(Opcode.TEXT, payload)
    assert wsload.cut(bytes(sent) + b"\x81") == (wsload.TEXT, payload, len(sent))


@given(st.integers(min_value=0, max_value=299 + 4 - 1))
def test_a_frame_that_is_not_all_there_is_awaited(length):
    sent = bytes(FrameProtocol(client=False, extensions=[])._serialize_frame(Opcode.TEXT, bytes(299)))
    assert wsload.cut(sent[:length]) is None


@pytest.mark.parametrize("data", [b"\x81\x84aaaabbbb", b"\x01\x01a", b"\xc1\x01a"])
def test_masks_fragments_and_extensions_are_refused(data):
    with pytest.raises(BadFrame):
        wsload.cut(data)


class _Answering(asyncio.Protocol):
    def __init__(self, answer):
        self.answer = answer

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, _data):
        self.transport.write(self.answer)


async def _answering(answer):
    return await asyncio.get_running_loop().create_server(lambda: _Answering(answer), "127.0.0.1", 0)


@pytest.mark.parametrize("closing", [b"", b"connection: close\r\n"])
async def test_load_counts_every_answer_on_kept_and_on_closed_connections(closing):
    answer = b"HTTP/1.1 200 \r\ncontent-length: %d\r\n%s\r\n%s" % (len(BODY), closing, BODY)
    async with await _answering(answer) as server:
        tally = await load.load(server.sockets[0].getsockname()[1], 3, 0.02)
    assert tally.last_body == BODY
    assert len(tally.latencies_s) >= 3
    assert tally.elapsed_s >= 0.02


async def test_load_does_not_count_a_refusal():
    async with await _answering(b"HTTP/1.1 429 \r\ncontent-length: 0\r\n\r\n") as server:
        with pytest.raises(ExceptionGroup) as raised:
            await load.load(server.sockets[0].getsockname()[1], 1, 0.02)
    assert raised.group_contains(BadAnswer)


async def test_a_refused_handshake_is_not_a_socket():
    async with await _answering(b"HTTP/1.1 403 \r\ncontent-length: 0\r\n\r\n") as server:
        with pytest.raises(BadFrame):
            async with wsload.socket(server.sockets[0].getsockname()[1], ()):
                pass
