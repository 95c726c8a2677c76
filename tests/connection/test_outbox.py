"""The bounds of what waits for a reader: at each of them all is well, one past it the reader is too slow."""

from __future__ import annotations

import pytest

from streamer.connection.outbox import Outbox, OutboxBounds

BOUNDS = OutboxBounds(max_bytes=1_000, stall_s=10.0)


@pytest.mark.parametrize(("last", "fits"), [(400, True), (401, False)])
def test_as_many_bytes_may_wait_as_are_set_and_not_one_more(last: int, fits: bool) -> None:
    outbox: Outbox[str] = Outbox(BOUNDS)
    assert outbox.put("a", 600)
    assert outbox.put("b", last) is fits
    assert outbox.bytes == 600 + last


def test_what_a_later_frame_replaces_goes_before_the_reader() -> None:
    outbox: Outbox[str] = Outbox(BOUNDS)
    assert outbox.put("a", 600, is_replaceable=True)
    assert outbox.put("b", 1_000)
    assert (outbox.dropped, outbox.bytes) == (1, 1_000)
    assert not outbox.put("c", 1)


async def test_a_reader_has_its_time_for_each_frame_from_when_it_is_written() -> None:
    outbox: Outbox[str] = Outbox(BOUNDS)
    for frame in "ab":
        outbox.put(frame, 1)
    assert outbox.deadline is None
    for now in (100.0, 109.9):
        await outbox.next(lambda now=now: now)  # type: ignore[misc]
        assert outbox.deadline == now + BOUNDS.stall_s
