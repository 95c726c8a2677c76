"""Results of a stream: turns the model's answers into events in stream order, and counts them."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.errors import ErrorCode
from streamer.session.actions import Action, Emit, JobFailed, JobKind, Outcome, Output, Shed
from streamer.session.audio_out import AudioOutput, has_json
from streamer.session.channel import Channel
from streamer.session.events import Event, Failed, Segment, Warned, WarningCode
from streamer.session.jobs import Asked
from streamer.session.ordering import Fences


@dataclass(slots=True)
class Tally:
    """Counters of a stream; lengths in samples at the model's rate."""

    segments: int = 0
    interims: int = 0
    interims_dropped: int = 0
    failed: int = 0
    failed_in_a_row: int = 0
    answered_for: int = 0
    """Samples sent to the model in finals and pieces: the speech, in segmented mode."""


class Answers:
    """Turns the outcomes of one stream's jobs into events. Methods append actions to `out`."""

    def __init__(
        self, fences: Fences, output: AudioOutput | None = None, *, interim_results: bool, lag_warning_s: float
    ) -> None:
        """Create the answers of a stream. `output`: takes their audio; None to leave it out."""
        self.tally = Tally()
        self._output = output
        self._fences = fences
        self._interim_results = interim_results
        self._lag_warning_s = lag_warning_s
        self._warned_lag = self._warned_shed = False

    def configure(self, *, interim_results: bool) -> None:
        """Send interims from now on, or send none."""
        self._interim_results = interim_results

    def final(self, channel: Channel, asked: Asked, outcome: Outcome, out: list[Action]) -> None:
        """Handle the outcome of a final or a piece; an error names the range without a result."""
        wanted, tally = asked.wanted, self.tally
        if self._output is not None:
            outcome = self._output.complete(asked, outcome)
        if isinstance(outcome, Output):
            event: Event = _segment(asked, outcome, final=True)
            tally.segments += 1
            tally.failed_in_a_row = 0
        else:
            code, message = _why(outcome)
            event = Failed(code, message, channel=channel.index, start=wanted.start, end=wanted.end)
            tally.failed += 1
            tally.failed_in_a_row += 1
            channel.failed += wanted.end - wanted.start
        channel.results.answer(asked.job, event)
        output = self._output
        while released := channel.results.release():
            if output is None:
                out.append(Emit(released))
                out += map(Emit, self._fences.ready())
                continue
            output.close(channel.index, channel.results.last)
            for event in (released, *self._fences.ready()):
                output.follow(event, out)

    def tail(self, asked: Asked, outcome: Outcome, out: list[Action]) -> None:
        """Handle the audio that the model still had at the end of the stream."""
        assert self._output is not None
        outcome = self._output.complete(asked, outcome)
        self._output.close(asked.channel, asked.job)
        if isinstance(outcome, JobFailed):
            text = f"the last audio out is silent: {outcome.message}"
            out.append(Emit(Failed(outcome.code, text, channel=asked.channel)))

    def interim(self, channel: Channel, asked: Asked, outcome: Outcome, out: list[Action]) -> None:
        """Handle the outcome of an interim.

        A failed or dropped interim is no loss, because its final covers the range. An interim that would overtake the
        final of an earlier utterance is dropped as well.
        """
        if isinstance(outcome, Output) and channel.results.idle:
            self.tally.interims += 1
            out.append(Emit(_segment(asked, outcome, final=False)))
            return
        self.tally.interims_dropped += 1
        if isinstance(outcome, Shed) and outcome.overload and not self._warned_shed:
            self._warned_shed = True
            text = "interim results are skipped: the model is overloaded"
            out.append(Emit(Warned(WarningCode.INTERIMS_SHED, text)))

    def partial(self, channel: Channel, asked: Asked, outcome: Output, out: list[Action]) -> None:
        """Handle one item of a generator: an interim, if the client wants interims and no earlier result is pending."""
        if self._output is not None and len(outcome.audio):
            self._output.add(asked, outcome.audio)
        if not has_json(outcome):
            return
        final = asked.wanted.kind is not JobKind.INTERIM
        turn = channel.results.is_next(asked.job) if final else channel.results.idle
        if self._interim_results and turn:
            self.tally.interims += 1
            interim = _segment(asked, outcome, final=False)
            if self._output is not None:
                self._output.follow(interim, out)
            else:
                out.append(Emit(interim))

    def warn_of_lag(self, took: float, out: list[Action]) -> None:
        """Warn once when results are late, until one is in time again.

        `took`: seconds from the end of the audio to its result.
        """
        lagging = took > self._lag_warning_s
        if lagging and not self._warned_lag:
            out.append(Emit(Warned(WarningCode.LAGGING, f"results arrive {took:.1f} s after the end of their audio")))
        self._warned_lag = lagging


def _segment(asked: Asked, outcome: Output, *, final: bool) -> Segment:
    wanted = asked.wanted
    reason = wanted.reason if final else None
    return Segment(asked.channel, wanted.segment_id, wanted.start, wanted.end, final, outcome.value, reason)


def _why(outcome: Outcome) -> tuple[ErrorCode, str]:
    if isinstance(outcome, JobFailed):
        return outcome.code, outcome.message
    return ErrorCode.INTERNAL, "the engine returned no result"
