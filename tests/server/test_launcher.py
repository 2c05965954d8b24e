"""`argentor_asgi.server.launcher`: where it listens, what it says, and how it refuses."""

import http.client
import os
import socket
import subprocess
import sys

import pytest
from processes import LAUNCH, TESTS, free_port, server

from argentor_asgi.errors import ConfigError
from argentor_asgi.server.launcher import CANNOT_START, KEEP_ALIVE_S, listen, settings

DEMO = "drain_demo:gateway"


def launched(bind, app=DEMO, **env):
    """Run the launcher to its end; return its exit code and the lines that it said."""
    command = [sys.executable, "-c", LAUNCH, app, bind]
    found = {**os.environ, "PYTHONPATH": str(TESTS), **env}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=found)  # noqa: S603  our own interpreter
    return ended.returncode, ended.stderr.splitlines()


@pytest.mark.slow
def test_a_port_in_use_is_one_line_and_exit_code_2():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, lines = launched(address)
    assert code == CANNOT_START
    [line] = lines
    assert line.startswith(f"argentor cannot start: cannot listen on {address}: ")


@pytest.mark.slow
def test_a_lifespan_that_fails_is_one_line_and_exit_code_2():
    code, lines = launched(f"127.0.0.1:{free_port()}", DEMO_REFUSE="the key is empty")
    assert (code, len(lines)) == (CANNOT_START, 1)
    assert lines[0].startswith("argentor cannot start: ")
    assert "the key is empty" in lines[0]


@pytest.mark.slow
def test_it_says_once_where_it_listens_and_hides_what_serves(tmp_path):
    with server("serve", DEMO, cwd=tmp_path) as running:
        assert running.log.splitlines() == [f"argentor listens on {running.url}"]
        connection = http.client.HTTPConnection("127.0.0.1", running.port)
        connection.request("GET", "/")
        assert connection.getresponse().getheader("server") is None
        connection.close()


@pytest.mark.slow
def test_it_serves_on_a_unix_socket(tmp_path):
    path = tmp_path / "argentor.sock"
    command = [sys.executable, "-c", LAUNCH, DEMO, f"unix:{path}"]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=env, cwd=tmp_path) as running:  # noqa: S603  our own interpreter
        try:
            assert running.stderr.readline() == f"argentor listens on unix:{path}\n".encode()
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                client.connect(str(path))
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200")
        finally:
            running.terminate()
        assert running.wait(5) == 0


leaks = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""hypercorn drops the socket that it could not bind without closing it."""


@leaks
@pytest.mark.parametrize(
    "address", ["127.0.0.1:99999", "no-such-host.invalid:80", "127.0.0.1:-1", "unix:/no/such/dir/s"]
)
def test_an_address_that_cannot_be_bound_is_named(address):
    with pytest.raises(ConfigError, match="cannot listen on") as refused:
        listen([address])
    assert address in str(refused.value)


@leaks
def test_what_was_bound_before_the_one_that_fails_is_free_again():
    free = f"127.0.0.1:{free_port()}"
    with pytest.raises(ConfigError):
        listen([free, "127.0.0.1:99999"])
    [bound] = listen([free])
    bound.close()


def test_port_0_is_a_free_port():
    [bound] = listen(["127.0.0.1:0"])
    assert bound.getsockname()[1] > 0
    bound.close()


def test_hypercorn_owns_the_sockets_and_keeps_its_bounds():
    [bound] = listen(["127.0.0.1:0"])
    number = bound.fileno()
    config = settings([bound])
    assert config.bind == [f"fd://{number}"]
    assert bound.fileno() == -1
    socket.socket(fileno=number).close()
    assert (config.keep_alive_timeout, config.include_server_header, config.accesslog) == (KEEP_ALIVE_S, False, None)
    assert config.websocket_max_message_size == 1024 * 1024
    assert config.read_timeout is None
