"""What a client was promised, checked against what it heard."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from streamer.client import Error, Event, Finished, Segment, SpeechEnded, SpeechStarted

_ROUNDING_S = 1e-4


class Broken(AssertionError):
    """A promise that was not kept."""


def check(events: Sequence[Event], *, sent: int, rate: int, mode: str, dialect: str) -> None:
    """A stream of `sent` frames that was stopped and closed in order. Raises Broken."""
    ranges = sorted(_ranges(events))
    if any(end < start for start, end in ranges):
        raise Broken(f"a range that ends before it starts: {ranges}")
    if mode == "simple":
        _contiguous(ranges, sent / rate)
    else:
        _each_utterance_once(events, ranges)
    if dialect == "v2":
        _closing(events, sent, rate)


def _ranges(events: Sequence[Event], *, failed_only: bool = False) -> list[tuple[float, float]]:
    """What finals, and the errors in their place, cover."""
    failed = [
        (event.start_time, event.end_time)
        for event in events
        if isinstance(event, Error) and event.start_time is not None and event.end_time is not None
    ]
    if failed_only:
        return failed
    return failed + [(one.start_time, one.end_time) for one in events if isinstance(one, Segment) and one.is_final]


def _contiguous(ranges: Sequence[tuple[float, float]], seconds: float) -> None:
    edges = [(0.0, 0.0), *ranges, (seconds, seconds)]
    gaps = [(left[1], right[0]) for left, right in pairwise(edges) if abs(right[0] - left[1]) > _ROUNDING_S]
    if gaps:
        raise Broken(f"frames without exactly one answer: {gaps} of {seconds} s; heard {ranges}")


def _each_utterance_once(events: Sequence[Event], ranges: Sequence[tuple[float, float]]) -> None:
    begun = sum(isinstance(event, SpeechStarted) for event in events)
    ended = sum(isinstance(event, SpeechEnded) for event in events)
    if not begun == ended == len(ranges):
        raise Broken(f"{begun} utterances began, {ended} ended, {len(ranges)} were answered")
    if any(right[0] < left[1] - _ROUNDING_S for left, right in pairwise(ranges)):
        raise Broken(f"answers overlap: {ranges}")


def _closing(events: Sequence[Event], sent: int, rate: int) -> None:
    closings = [event for event in events if isinstance(event, Finished)]
    if len(closings) != 1 or events[-1] is not closings[0]:
        raise Broken(f"{len(closings)} closing events, the last event is {events[-1]}")
    failed = round(rate * sum(end - start for start, end in _ranges(events, failed_only=True)))
    if not closings[0].received == closings[0].processed + failed == sent:
        raise Broken(f"{sent} frames sent, {failed} named by errors, {closings[0]}")
