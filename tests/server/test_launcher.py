"""`argentor_asgi.server.launcher`: where it listens, what it says, and how it refuses."""

import http.client
import os
import resource
import socket
import subprocess
import sys

import pytest
from processes import LAUNCH, TESTS, free_port, server

from argentor_asgi.config import Config, Limits, Shutdown
from argentor_asgi.errors import ConfigError
from argentor_asgi.server.launcher import APP_QUEUE, CANNOT_START, KEEP_ALIVE_S, listen, settings
from argentor_asgi.server.system import OPTIONS, SPARE_FILES, allow_files

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
    config = settings([bound], Config(limits=Limits(message_bytes=1000), shutdown=Shutdown(total_s=7)))
    assert config.bind == [f"fd://{number}"]
    assert bound.fileno() == -1
    socket.socket(fileno=number).close()
    assert (config.keep_alive_timeout, config.include_server_header, config.accesslog) == (KEEP_ALIVE_S, False, None)
    assert config.websocket_max_message_size == 3 * 1000 + 16 * 1024
    assert (config.h11_max_incomplete_size, config.max_app_queue_size) == (32 * 1024, APP_QUEUE)
    assert (config.read_timeout, config.shutdown_timeout) == (None, 7)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
def test_a_connection_has_what_its_listening_socket_was_given(address):
    [listening] = listen([address])
    with listening, socket.socket(listening.family) as client:
        listening.listen()
        client.connect(listening.getsockname())
        listening.setblocking(True)
        made, _ = listening.accept()
        with made:
            given = {name: made.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in OPTIONS}
            assert given == OPTIONS
            assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


@leaks
def test_a_datagram_socket_is_not_listened_on():
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        number = os.dup(other.fileno())
    with pytest.raises(ConfigError, match=f"cannot listen on fd://{number}: "):
        listen([f"fd://{number}"])


@pytest.mark.slow
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_it_serves_on_a_socket_that_a_supervisor_has_opened(family, tmp_path):
    path = tmp_path / "argentor.sock"
    with socket.socket(family) as opened:
        opened.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(path))
        opened.listen()
        where, number = opened.getsockname(), opened.fileno()
        command = [sys.executable, "-c", LAUNCH, DEMO, f"fd://{number}"]
        env = {**os.environ, "PYTHONPATH": str(TESTS)}
        with subprocess.Popen(  # noqa: S603  our own interpreter
            command, stderr=subprocess.PIPE, env=env, cwd=tmp_path, pass_fds=[number]
        ) as running:
            try:
                said = f"unix:{path}" if family == socket.AF_UNIX else f"http://127.0.0.1:{where[1]}"
                assert running.stderr.readline() == f"argentor listens on {said}\n".encode()
                with socket.socket(family) as client:
                    client.settimeout(5)
                    client.connect(where)
                    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    assert client.recv(100).startswith(b"HTTP/1.1 200")
            finally:
                running.terminate()
            assert running.wait(5) == 0


LIMITED = f"""
import resource, sys
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard if sys.argv[1] == "-" else int(sys.argv[1])))
from {allow_files.__module__} import allow_files
allow_files(200)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("hard", "allowed"), [("-", 200 + SPARE_FILES), ("150", 150)])
def test_as_many_files_are_allowed_as_connections_need_and_the_system_lets(hard, allowed):
    command = [sys.executable, "-c", LIMITED, hard]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603  our own interpreter
    assert int(ended.stdout) == allowed


def test_enough_files_stay_as_they_are():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    allow_files(1)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
