"""The log never waits, says what was asked of it and nothing of what clients said."""

from __future__ import annotations

import io
import json
import logging
import threading
from typing import Any

import pytest

from streamer.errors import ErrorCode
from streamer.session.events import Mode
from streamer.telemetry import logs as logs_module
from streamer.telemetry.logs import CURRENT, Ids, LogRateLimiter, Logs
from streamer.telemetry.telemetry import Telemetry
from streamer.testing import s16le, tone
from tests.connection.in_memory_server import START, STOP, InMemoryServer, hear, turns

log = logging.getLogger("streamer.test")


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def records(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_record_is_a_line_of_json_with_ids(out: io.StringIO) -> None:
    ids = Ids("s1")
    ids.trace_id, ids.span_id = "a" * 32, "b" * 16
    with Logs(stream=out):
        token = CURRENT.set(ids)
        log.info("%d things", 3)
        CURRENT.reset(token)
        log.info("nobody's")
    one, other = records(out)
    assert {key: one[key] for key in ("level", "logger", "message", "session_id", "trace_id", "span_id")} == {
        "level": "info", "logger": "streamer.test", "message": "3 things",
        "session_id": "s1", "trace_id": "a" * 32, "span_id": "b" * 16,
    }  # fmt: skip
    assert "session_id" not in other


def test_a_record_from_outside_of_a_session_finds_its_trace_by_the_sessions_id(out: io.StringIO) -> None:
    ids = Ids("s1")
    ids.trace_id = "a" * 32
    with Logs(stream=out) as logs:
        logs.set_ids_source({"s1": ids}.get)
        log.warning("a job failed", extra={"session_id": "s1"})
    assert records(out)[0]["trace_id"] == "a" * 32


def test_an_error_brings_its_traceback_and_text_is_for_people(out: io.StringIO) -> None:
    with Logs(style="text", stream=out):
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("it failed")
    first, *rest = out.getvalue().splitlines()
    assert first.endswith("ERROR   streamer.test: it failed")
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-1] == "ValueError: broken"


def test_repeats_are_held_back_and_counted() -> None:
    repeats = LogRateLimiter(burst=2, window_s=10, keys=3)
    assert [repeats.allow("a", now) for now in (0.0, 1.0, 2.0, 3.0)] == [0, 0, None, None]
    assert repeats.allow("b", 3.0) == 0
    assert repeats.allow("a", 10.0) == 2
    for key in "cdef":
        repeats.allow(key, 11.0)
    assert len(repeats._windows) == 3


def test_a_flood_of_one_line_is_a_few_lines(out: io.StringIO) -> None:
    with Logs(stream=out):
        for number in range(1_000):
            log.warning("message %d is odd", number)
    assert [record["message"] for record in records(out)] == [f"message {number} is odd" for number in range(5)]


def test_a_crowd_that_is_turned_away_is_a_few_lines_of_each_kind(out: io.StringIO) -> None:
    telemetry = Telemetry("stub", {})
    with Logs(stream=out):
        for _ in range(1_000):
            telemetry.on_refused("websocket", ErrorCode.OVERLOADED, "10.0.0.1")
        telemetry.on_refused("grpc", ErrorCode.UNAUTHENTICATED, "10.0.0.2")
    said = [(record["message"], record["transport"], record["code"], record["peer"]) for record in records(out)]
    assert said == [
        *[("session refused", "websocket", "overloaded", "10.0.0.1")] * 5,
        ("session refused", "grpc", "unauthenticated", "10.0.0.2"),
    ]


class Stuck(io.StringIO):
    """A terminal that does not take its lines until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.go.wait(30)
        return super().write(text)


def test_a_stuck_reader_costs_records_and_never_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs_module, "QUEUE", 10)
    out = Stuck()
    with Logs(stream=out, repeats=LogRateLimiter(burst=1_000)) as logs:
        for number in range(50):
            log.info("line %d", number)
        assert 38 <= logs.dropped <= 40
        out.go.set()
    assert len(records(out)) + logs.dropped == 50


def test_a_full_disk_is_counted_and_nothing_worse() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with Logs(stream=Full()) as logs:
        log.info("one")
    assert logs.dropped == 1


def test_the_log_before_is_put_back(out: io.StringIO) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    with Logs("debug", stream=out):
        assert root.handlers != before[0]
    assert (root.handlers, root.level) == before


async def test_a_session_is_one_record_at_its_end_and_says_nothing_it_heard(out: io.StringIO) -> None:
    secrets = ("eyJhbGciOi", "the weather today", "call-42")
    with Logs("debug", stream=out):
        stage = InMemoryServer(Mode.SEGMENTED, observe=lambda clock: Telemetry("stub", {}, clock.now))
        client = stage.connect()
        start = json.loads(START) | {"metadata": {"who": secrets[2]}, "options": {"words": secrets[1]}}
        await client.send(json.dumps({"type": "auth", "token": secrets[0]}))
        await client.send(json.dumps(start))
        sound = s16le(tone(440, 1.0))
        for piece in (sound, b"\0" * 32_000, sound, b"\0" * 32_000):
            await client.send(piece)
            await turns()
        await client.send(STOP)
        await hear(client)
        await stage.over()
    text = out.getvalue()
    [closed] = [record for record in records(out) if record["message"] == "session closed"]
    assert (closed["mode"], closed["reason"], closed["segments"], closed["received_s"]) == (
        "segmented",
        "stopped",
        2,
        4.0,
    )
    assert closed["session_id"]
    assert closed["final_latency_max_s"] >= 0
    assert not [secret for secret in secrets if secret in text]
    assert sound[4_000:4_016].hex() not in text
