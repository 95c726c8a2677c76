"""Sockets that are read once it is worth it: nothing is kept from the server for long, and in no crowd at all."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from streamer.testing import ManualClock
from streamer.transports.patience import HELD_S, LOOK_S, Level, Patience

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="only Linux promises how SO_RCVLOWAT is told")


class Line:
    """One real connection: what a client sends, and whether a server would be woken to read it."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            self.server, _ = listener.accept()
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def woken(self) -> bool:
        return bool(select.select([self.server], [], [], 0.02)[0])

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def patience(clock: ManualClock) -> Patience:
    return Patience(crowd=0, clock=clock)


@pytest.fixture
def level(patience: Patience, line: Line) -> Level:
    return patience.enter(line.server)


def test_a_socket_is_read_once_there_is_enough(line: Line, level: Level) -> None:
    level.set(1_000)
    line.client.send(bytes(999))
    assert not line.woken()
    line.client.send(bytes(1))
    assert line.woken()


def test_what_is_not_enough_is_read_after_a_while_all_the_same(
    line: Line, level: Level, clock: ManualClock, patience: Patience
) -> None:
    level.set(1_000)
    line.client.send(b"stop")
    assert not line.woken()
    clock.advance(HELD_S + LOOK_S)
    assert line.woken()
    assert (patience.held, clock.timers) == (0, 0)


def test_who_is_read_in_time_is_held_on(line: Line, level: Level, clock: ManualClock) -> None:
    for _ in range(20):
        level.set(1_000)
        clock.advance(HELD_S - LOOK_S)
    line.client.send(bytes(500))
    assert not line.woken()


def test_an_end_is_heard_of_at_once(line: Line, level: Level) -> None:
    level.set(1_000)
    line.client.send(b"bye")
    line.client.close()
    assert line.woken()


def test_one_that_is_late_does_not_release_those_that_are_not(patience: Patience, clock: ManualClock) -> None:
    lines = [Line() for _ in range(3)]
    levels = [patience.enter(each.server) for each in lines]
    for level in levels:
        level.set(1_000)
    clock.advance(HELD_S / 2)
    levels[0].set(1_000)
    levels[2].set(1_000)
    clock.advance(HELD_S / 2 + LOOK_S)
    for each in lines:
        each.client.send(bytes(10))
    assert [each.woken() for each in lines] == [False, True, False]
    for each in lines:
        each.close()


def test_where_there_is_no_crowd_every_byte_is_read(line: Line, clock: ManualClock) -> None:
    patience = Patience(crowd=2, clock=clock)
    levels = [patience.enter(line.server) for _ in range(2)]
    levels[0].set(1_000)
    line.client.send(b"x")
    assert line.woken()
    more = patience.enter(line.server)
    levels[0].set(1_000)
    assert not line.woken()
    more.leave()
    levels[0].set(1_000)
    assert line.woken()


def test_who_has_left_leaves_nothing_and_a_closed_socket_is_no_error(
    line: Line, level: Level, clock: ManualClock, patience: Patience
) -> None:
    other = patience.enter(line.server)
    other.set(1_000)
    level.set(1_000)
    level.leave()
    assert patience.held == 1
    line.server.close()
    clock.advance(1.0)
    other.leave()
    assert (patience.held, patience.crowded, clock.timers) == (0, False, 0)


def test_the_last_bytes_of_a_connection_that_is_closed_are_read_at_once(
    line: Line, level: Level, clock: ManualClock
) -> None:
    level.set(1_000)
    line.client.send(b"bye")
    assert not line.woken()
    level.leave()
    assert line.woken()
