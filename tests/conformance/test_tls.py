"""Behind TLS as hypercorn speaks it: WebSockets over TLS, and HTTP/2, whose heads come in another shape."""

import json
import socket
import ssl
import subprocess

import h2.config
import h2.connection
import h2.events
import pytest
from hostile import SUM
from processes import free_port, server
from websockets.asyncio.client import connect

pytestmark = pytest.mark.slow
PATIENCE_S = 10.0
CHAT = "/api/v1/agent/chat"


class Secured(server):
    """hypercorn with a certificate on `tls_port`; `port` speaks without, for whoever waits for the start."""

    def _command(self):
        self.tls_port = free_port()
        loop = self.kind.removeprefix("hypercorn-")
        return [
            *("-m", "hypercorn", "-k", loop, "-w", "0", "--insecure-bind", f"127.0.0.1:{self.port}"),
            *("-b", f"127.0.0.1:{self.tls_port}", "--certfile", "cert.pem", "--keyfile", "key.pem", self.app),
        ]


@pytest.fixture(scope="module", params=["hypercorn-asyncio", "hypercorn-uvloop"])
def secured(request, tmp_path_factory):
    cwd = tmp_path_factory.mktemp(request.param)
    subprocess.run(  # noqa: S603  our own arguments
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=cwd,
        check=True,
        capture_output=True,
    )
    with Secured(request.param, cwd=cwd) as running:
        yield running


def trusting(running, *protocols):
    """Return a client's TLS that trusts the server's certificate and offers these protocols."""
    context = ssl.create_default_context(cafile=running.cwd / "cert.pem")
    context.set_alpn_protocols(list(protocols))
    return context


async def test_a_websocket_over_tls_talks(secured):
    url = f"wss://127.0.0.1:{secured.tls_port}/ws"
    async with connect(url, ssl=trusting(secured, "http/1.1"), origin=url[:-3].replace("wss", "https")) as found:
        assert json.loads(await found.recv())["type"] == "connected"
        await found.send(SUM)
        while (frame := json.loads(await found.recv())).get("type") != "response":
            pass
        assert "391" in frame["content"]


def test_http_2_is_served_over_tls_with_every_header_that_http_1_has(secured):
    with http2(secured) as talk:
        status, fields, body = talk.ask("GET", "/health")
        assert (status, json.loads(body)) == (200, {"status": "ok", "service": "argentor"})
        assert {"x-request-id", "x-trace-id"} <= fields.keys()
        status, _, body = talk.ask("POST", CHAT, json.dumps({"message": SUM}).encode())
        assert (status, json.loads(body)["response"]) == (200, "17*23 = 391")
        assert [talk.ask("GET", path)[0] for path in ("/nope", "/a/../health", "/health%00")] == [404, 400, 400]


class http2:  # noqa: N801  used as a function is
    """One HTTP/2 connection over TLS, a request at a time."""

    def __init__(self, running):
        self._socket = trusting(running, "h2").wrap_socket(
            socket.create_connection(("127.0.0.1", running.tls_port), PATIENCE_S), server_hostname="127.0.0.1"
        )
        assert self._socket.selected_alpn_protocol() == "h2"
        self._state = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._state.initiate_connection()
        self._host = f"127.0.0.1:{running.tls_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._socket.close()

    def ask(self, method, path, body=b""):
        """Send one request; return its status, header fields and body."""
        number = self._state.get_next_available_stream_id()
        head = {":method": method, ":authority": self._host, ":scheme": "https", ":path": path}
        more = {"content-type": "application/json", "content-length": str(len(body))} if body else {}
        self._state.send_headers(number, [*head.items(), *more.items()], end_stream=not body)
        if body:
            self._state.send_data(number, body, end_stream=True)
        fields, data, is_over = {}, b"", False
        while not is_over:
            self._socket.sendall(self._state.data_to_send())
            for event in self._state.receive_data(self._socket.recv(65_536)):
                if isinstance(event, h2.events.ResponseReceived):
                    fields = dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    data += event.data
                is_over = is_over or isinstance(event, h2.events.StreamEnded)
        return int(fields[":status"]), fields, data
