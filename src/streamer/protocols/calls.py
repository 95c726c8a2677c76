"""Events of telephone calls, for those who listen to them: a telephone system sends audio and reads no results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from streamer.protocols.codec import Timebase
from streamer.session import events
from streamer.session.events import Event


class CallStarted(msgspec.Struct, frozen=True, tag_field="type", tag="call_started"):
    """A call has begun. `source`: twilio or audiosocket. `parameters`: as the telephone system sent them."""

    call_id: str
    source: str
    parameters: Mapping[str, str]


class CallSegment(msgspec.Struct, frozen=True, tag_field="type", tag="segment"):
    """A result for [start_time, end_time), in seconds of the call. `track`: who speaks. `output`: the model's."""

    call_id: str
    track: str
    segment_id: int
    start_time: float
    end_time: float
    is_final: bool
    output: msgspec.Raw


class CallDigit(msgspec.Struct, frozen=True, tag_field="type", tag="dtmf"):
    """The caller has pressed a key."""

    call_id: str
    digit: str


class CallError(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """An error. `fatal`: the server hangs up."""

    call_id: str
    code: str
    message: str
    fatal: bool


class CallEnded(msgspec.Struct, frozen=True, tag_field="type", tag="call_ended"):
    """The last event of a call, after all its finals. `reason`: a FinishReason."""

    call_id: str
    reason: str
    duration_s: float


CallEvent = CallStarted | CallSegment | CallDigit | CallError | CallEnded
Publish = Callable[[CallEvent], None]


class CallReport:
    """Publishes what happens in one call. `sample_rate`: of the model in Hz, the unit of event positions."""

    def __init__(self, source: str, sample_rate: int, publish: Publish) -> None:
        self._source = source
        self._clock = Timebase(sample_rate)
        self._publish = publish
        self.call_id = ""
        self._tracks: Sequence[str] = ()
        self._rate = 0
        self._is_open = False

    def start(self, call_id: str, tracks: Sequence[str], rate: int, parameters: Mapping[str, str]) -> None:
        """Begin. `tracks`: names of the channels. `rate`: of the audio in Hz."""
        self.call_id, self._tracks, self._rate, self._is_open = call_id, tracks, rate, True
        self._publish(CallStarted(call_id, self._source, parameters))

    def digit(self, digit: str) -> None:
        """Report a key."""
        if self._is_open:
            self._publish(CallDigit(self.call_id, digit))

    def event(self, event: Event) -> None:
        """Report an event of the session; most have no meaning to those who listen."""
        if not self._is_open:
            return
        match event:
            case events.Segment():
                self._publish(self._segment(event))
            case events.ErrorEvent():
                self._publish(CallError(self.call_id, event.code.value, event.message, event.fatal))
                if event.fatal:
                    self.end(event.code.value, 0)
            case events.Finished():
                self.end(event.reason.value, event.received)

    def end(self, reason: str, frames: int) -> None:
        """End the call, once. `frames`: of its audio."""
        if self._is_open:
            self._is_open = False
            self._publish(CallEnded(self.call_id, reason, round(frames / max(1, self._rate), 3)))

    def _segment(self, event: events.Segment) -> CallSegment:
        seconds = self._clock.seconds
        return CallSegment(
            self.call_id,
            self._tracks[event.channel],
            event.segment_id,
            seconds(event.start),
            seconds(event.end),
            event.is_final,
            event.output,
        )
