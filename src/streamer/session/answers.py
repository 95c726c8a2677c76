"""Answers of the model: the events that they become, in stream order, and the counts of a stream."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.errors import ErrorCode
from streamer.session.actions import Action, Emit, JobFailed, JobKind, Outcome, Output, Shed
from streamer.session.channel import Channel
from streamer.session.events import Event, Failed, Segment, Warned, WarningCode
from streamer.session.jobs import Asked
from streamer.session.ordering import Fences


@dataclass(slots=True)
class Tally:
    """Counts of a stream so far; samples at the model's rate."""

    segments: int = 0
    interims: int = 0
    interims_dropped: int = 0
    failed: int = 0
    failed_in_a_row: int = 0
    answered_for: int = 0
    """Samples handed to the model in finals and pieces: the speech, in segmented mode."""


class Answers:
    """Makes events of the outcomes of one stream's jobs. Methods append to `out` what the outside has to do."""

    def __init__(self, fences: Fences, *, interim_results: bool, lag_warning_s: float) -> None:
        self.tally = Tally()
        self._fences = fences
        self._interim_results = interim_results
        self._lag_warning_s = lag_warning_s
        self._warned_lag = self._warned_shed = False

    def final(self, channel: Channel, asked: Asked, outcome: Outcome, out: list[Action]) -> None:
        """The outcome of a final or a piece; an error names the range that has no result."""
        wanted, tally = asked.wanted, self.tally
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
        while released := channel.results.release():
            out.append(Emit(released))
            out += map(Emit, self._fences.ready())

    def interim(self, channel: Channel, asked: Asked, outcome: Outcome, out: list[Action]) -> None:
        """An interim that failed or was shed is no loss (its final will cover the range); neither is one that would
        overtake an earlier utterance's final."""
        if isinstance(outcome, Output) and channel.results.idle:
            self.tally.interims += 1
            out.append(Emit(_segment(asked, outcome, final=False)))
            return
        self.tally.interims_dropped += 1
        if isinstance(outcome, Shed) and outcome.overload and not self._warned_shed:
            self._warned_shed = True
            text = "interims are left out: the model has more to do than it can"
            out.append(Emit(Warned(WarningCode.INTERIMS_SHED, text)))

    def partial(self, channel: Channel, asked: Asked, outcome: Output, out: list[Action]) -> None:
        """One item of a generator's answer: an interim if interims were asked for and its turn has come."""
        final = asked.wanted.kind is not JobKind.INTERIM
        turn = channel.results.is_next(asked.job) if final else channel.results.idle
        if self._interim_results and turn:
            self.tally.interims += 1
            out.append(Emit(_segment(asked, outcome, final=False)))

    def warn_of_lag(self, took: float, out: list[Action]) -> None:
        """`took`: seconds from the end of the audio to its result. Once, until one is in time again."""
        lagging = took > self._lag_warning_s
        if lagging and not self._warned_lag:
            out.append(Emit(Warned(WarningCode.LAGGING, f"results come {took:.1f} s after their audio was complete")))
        self._warned_lag = lagging


def _segment(asked: Asked, outcome: Output, *, final: bool) -> Segment:
    wanted = asked.wanted
    return Segment(asked.channel, wanted.segment_id, wanted.start, wanted.end, final, outcome.value)


def _why(outcome: Outcome) -> tuple[ErrorCode, str]:
    if isinstance(outcome, JobFailed):
        return outcome.code, outcome.message
    return ErrorCode.INTERNAL, "the engine gave no answer"
