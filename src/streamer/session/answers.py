"""Results of a stream: turns the model's answers into events in stream order, and counts them."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.errors import ErrorCode
from streamer.session.actions import Action, Emit, JobFailed, JobKind, Outcome, Output, Shed
from streamer.session.audio_out import AudioOutput, has_json
from streamer.session.channel import Channel
from streamer.session.events import ErrorEvent, Event, Segment, WarningCode, WarningEvent
from streamer.session.jobs import PendingJob
from streamer.session.reordering import Fences


@dataclass(slots=True)
class StreamCounters:
    """Counters of a stream; lengths in samples at the model's rate."""

    segments: int = 0
    interims: int = 0
    interims_dropped: int = 0
    failed: int = 0
    consecutive_failures: int = 0
    answered_samples: int = 0
    """Samples sent to the model in finals and pieces: the speech, in segmented mode."""


class Answers:
    """Turns the outcomes of one stream's jobs into events. Methods append actions to `out`."""

    def __init__(
        self, fences: Fences, output: AudioOutput | None = None, *, interim_results: bool, lag_warning_s: float
    ) -> None:
        """Create the answers of a stream. `output`: takes their audio; None to leave it out."""
        self.counters = StreamCounters()
        self._output = output
        self._fences = fences
        self._interim_results = interim_results
        self._lag_warning_s = lag_warning_s
        self._warned_lag = self._warned_shed = self._warned_clamped = False

    def configure(self, *, interim_results: bool) -> None:
        """Send interims from now on, or send none."""
        self._interim_results = interim_results

    def fence(self, event: Event, out: list[Action]) -> None:
        """Emit an event after every result requested so far has left."""
        self._fences.put(event)
        for ready in self._fences.pop_ready():
            if self._output is not None:
                self._output.follow(ready, out)
            else:
                out.append(Emit(ready))

    def final(self, channel: Channel, pending: PendingJob, outcome: Outcome, out: list[Action]) -> None:
        """Handle the outcome of a final or a piece; an error names the range without a result."""
        audio_range, counters = pending.audio_range, self.counters
        if self._output is not None:
            outcome = self._output.complete(pending, outcome)
        if isinstance(outcome, Output):
            event: Event = _segment(pending, outcome, final=True)
            counters.segments += 1
            counters.consecutive_failures = 0
        else:
            code, message = _error_of(outcome)
            event = ErrorEvent(code, message, channel=channel.index, start=audio_range.start, end=audio_range.end)
            counters.failed += 1
            counters.consecutive_failures += 1
            channel.failed_samples += audio_range.end - audio_range.start
        channel.results.put(pending.job, event)
        output = self._output
        while released := channel.results.pop_ready():
            if output is None:
                out.append(Emit(released))
                out += map(Emit, self._fences.pop_ready())
                continue
            output.close(channel.index, channel.results.last)
            for event in (released, *self._fences.pop_ready()):
                output.follow(event, out)

    def tail(self, pending: PendingJob, outcome: Outcome, out: list[Action]) -> None:
        """Handle the audio that the model still had at the end of the stream."""
        assert self._output is not None
        outcome = self._output.complete(pending, outcome)
        self._output.close(pending.channel, pending.job)
        if isinstance(outcome, JobFailed):
            text = f"the last audio out is silent: {outcome.message}"
            out.append(Emit(ErrorEvent(outcome.code, text, channel=pending.channel)))

    def interim(self, channel: Channel, pending: PendingJob, outcome: Outcome, out: list[Action]) -> None:
        """Handle the outcome of an interim.

        A failed or dropped interim is no loss, because its final covers the range. An interim that would overtake the
        final of an earlier utterance is dropped as well.
        """
        if isinstance(outcome, Output) and channel.results.is_empty:
            self.counters.interims += 1
            out.append(Emit(_segment(pending, outcome, final=False)))
            return
        self.counters.interims_dropped += 1
        if isinstance(outcome, Shed) and outcome.by_overload and not self._warned_shed:
            self._warned_shed = True
            text = "interim results are skipped: the model is overloaded"
            out.append(Emit(WarningEvent(WarningCode.INTERIMS_SHED, text)))

    def partial(self, channel: Channel, pending: PendingJob, outcome: Output, out: list[Action]) -> None:
        """Handle one item of a generator: an interim, if the client wants interims and no earlier result is pending."""
        if self._output is not None and len(outcome.audio):
            self._output.add(pending, outcome.audio)
        if not has_json(outcome):
            return
        final = pending.audio_range.kind is not JobKind.INTERIM
        turn = channel.results.is_next(pending.job) if final else channel.results.is_empty
        if self._interim_results and turn:
            self.counters.interims += 1
            interim = _segment(pending, outcome, final=False)
            if self._output is not None:
                self._output.follow(interim, out)
            else:
                out.append(Emit(interim))

    def warn_of_lost_state(self, pending: PendingJob, sample_rate: int, out: list[Action]) -> None:
        """Warn that the model's state of a channel was lost before a result. `sample_rate`: of its range, in Hz."""
        text = f"the model's state for channel {pending.channel} was lost with its worker; "
        text += f"processing restarted at {pending.audio_range.start / sample_rate:.3f} s"
        out.append(Emit(WarningEvent(WarningCode.STATE_LOST, text)))

    def warn_of_clamped_audio(self, out: list[Action]) -> None:
        """Warn once that samples were clamped."""
        if not self._warned_clamped:
            self._warned_clamped = True
            text = "samples outside of [-1, 1] or not finite were clamped"
            out.append(Emit(WarningEvent(WarningCode.AUDIO_CLAMPED, text)))

    def warn_of_lag(self, took: float, out: list[Action]) -> None:
        """Warn once when results are late, until one is in time again.

        `took`: seconds from the end of the audio to its result.
        """
        lagging = took > self._lag_warning_s
        if lagging and not self._warned_lag:
            out.append(
                Emit(WarningEvent(WarningCode.LAGGING, f"results arrive {took:.1f} s after the end of their audio"))
            )
        self._warned_lag = lagging


def _segment(pending: PendingJob, outcome: Output, *, final: bool) -> Segment:
    audio_range = pending.audio_range
    reason = audio_range.reason if final else None
    return Segment(
        pending.channel, audio_range.segment_id, audio_range.start, audio_range.end, final, outcome.value, reason
    )


def _error_of(outcome: Outcome) -> tuple[ErrorCode, str]:
    if isinstance(outcome, JobFailed):
        return outcome.code, outcome.message
    return ErrorCode.INTERNAL, "the engine returned no result"
