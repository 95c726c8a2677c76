"""Ports that several processes share, and nobody else."""

from __future__ import annotations

import socket
import sys

import pytest

from streamer.config.addresses import host_and_port
from streamer.errors import ConfigError, ListenFailed
from streamer.supervision.ports import SharedPorts

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ports are shared on Linux only")


def listener(port: int, *, shared: bool) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind(("127.0.0.1", port))
        made.listen()
    except OSError:
        made.close()
        raise
    return made


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_those_who_share_listen_beside_each_other(host: str) -> None:
    with SharedPorts() as ports:
        port = ports.reserve(host, 0)
        assert port > 0
        with listener(port, shared=True), listener(port, shared=True):
            pass


def test_a_port_that_is_held_gets_no_connection() -> None:
    with SharedPorts() as ports:
        port = ports.reserve("127.0.0.1", 0)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_a_server_that_does_not_share_is_refused() -> None:
    with SharedPorts() as ports, pytest.raises(OSError, match="in use"):
        listener(ports.reserve("127.0.0.1", 0), shared=False)


@pytest.mark.parametrize("shared", [True, False])
def test_a_port_on_which_somebody_listens_is_not_shared_without_a_word(shared: bool) -> None:
    with listener(0, shared=shared) as other, SharedPorts() as ports:
        port = other.getsockname()[1]
        with pytest.raises(ListenFailed, match=f"cannot listen on 127.0.0.1:{port}: address already in use"):
            ports.reserve("127.0.0.1", port)


def test_two_servers_that_start_at_the_same_time_do_not_share_either() -> None:
    with SharedPorts() as ours, SharedPorts() as theirs:
        port = ours.reserve("127.0.0.1", 0)
        with pytest.raises(ListenFailed):
            theirs.reserve("127.0.0.1", port)


def test_connections_that_linger_do_not_hold_a_port() -> None:
    with listener(0, shared=False) as ended:
        port = ended.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = ended.accept()
        accepted.close()  # who closes first keeps the port for a minute
        client.close()
    with SharedPorts() as ports:
        assert ports.reserve("127.0.0.1", port) == port
        with listener(port, shared=True):
            pass


def test_a_name_that_is_none_is_one_line() -> None:
    with SharedPorts() as ports, pytest.raises(ListenFailed, match=r"cannot listen on no\.such\.invalid:80: "):
        ports.reserve("no.such.invalid", 80)


@pytest.mark.parametrize("address", ["9000", "host:", "host:port", "host:70000", ":9000"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.metrics_address: expected host:port"):
        host_and_port(address, "server.metrics_address")


def test_an_ipv6_host_stands_in_brackets() -> None:
    assert host_and_port("[::1]:9000", "x") == ("::1", 9000)
