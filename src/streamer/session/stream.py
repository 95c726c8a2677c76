"""One stream: its audio, its segmenters, its outstanding jobs. The session above it knows what the client may say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamer.errors import ErrorCode
from streamer.session.actions import (
    Action,
    Cancel,
    Emit,
    Infer,
    Job,
    JobFailed,
    JobId,
    JobKind,
    Outcome,
    Output,
    Score,
    Shed,
)
from streamer.session.arrivals import INTERVAL_S, Arrivals
from streamer.session.channel import MAX_STEPS, Asked, Channel, segmenter_for, step_for
from streamer.session.events import Ack, Event, Failed, Mode, Segment, SpeechEnded, Warned, WarningCode
from streamer.session.intake import Taken, intake_for
from streamer.session.messages import Start
from streamer.session.ordering import Fences
from streamer.session.segmenting import MAX_WINDOWS, SPEECH_RATE, Fact, Wanted
from streamer.session.settings import SessionSettings
from streamer.vad.settings import VadConfig

WANTED_S = 0.032
"""A window of speech; of longer pieces too, audio should not be looked at less often."""


@dataclass(slots=True)
class Tally:
    """What a stream has done so far; counts, and samples at the model's rate."""

    segments: int = 0
    interims: int = 0
    interims_dropped: int = 0
    failed: int = 0
    failed_in_a_row: int = 0
    answered_for: int = 0
    """Samples handed to the model in finals and pieces: the speech, in segmented mode."""


class Stream:
    """The audio of one start, until its last result.

    Methods append to `out` what the outside has to do. After `end_here`, `settled` becomes true when everything before
    the boundary has been scored and asked for, `finished` when every result has left too.
    """

    def __init__(
        self, settings: SessionSettings, start: Start, vad: VadConfig, session_id: str, number: int, first_job: JobId
    ) -> None:
        self.start = start
        self.number = number
        self.next_job = first_job
        self.tally = Tally()
        self._settings = settings
        self._session_id = session_id
        self.sample_rate = settings.model_sample_rate
        """Hz of all positions: the model's."""
        self._inflight = 1 if settings.stateful else settings.max_inflight
        segmented = settings.mode is Mode.SEGMENTED
        form = start.format
        self._most_steps = MAX_WINDOWS if segmented else MAX_STEPS
        step, parts = step_for(settings, start)
        self._intake, coding = intake_for(form, self.sample_rate, SPEECH_RATE if segmented else None, step, parts)
        self._channels = [
            Channel(index, segmenter_for(index, settings, start, vad, coding)) for index in range(form.channels)
        ]
        self._fences = Fences([channel.results for channel in self._channels])
        self._jobs: dict[JobId, Asked] = {}
        self._owed = 0
        self._scoring = 0
        self._ending = self._sealed = False
        self._received_bytes = 0
        self.room_bytes = int(settings.limits.max_stream_s * form.sample_rate) * form.frame_bytes
        """What may still come within the longest stream."""
        self._ack_bytes = self._next_ack = max(1, form.sample_rate // 2) * form.frame_bytes
        self._most_wanted = round(WANTED_S * form.sample_rate) * form.frame_bytes
        self._arrivals = Arrivals()
        self._mark_bytes = max(1, round(INTERVAL_S * form.sample_rate)) * form.frame_bytes
        self._next_mark = form.frame_bytes
        self._warned_clamped = self._warned_lag = self._warned_shed = False

    # What a session asks about -----------------------------------------------------------------

    @property
    def received(self) -> int:
        """Whole frames received."""
        return self._received_bytes // self.start.format.frame_bytes

    @property
    def received_s(self) -> float:
        return self.received / self.start.format.sample_rate

    @property
    def backlog_s(self) -> float:
        """Seconds of audio that still have to be converted, scored or answered for."""
        form = self.start.format
        unread = self._intake.pending_bytes / (form.frame_bytes * form.sample_rate)
        uncut = max(channel.segmenter.waiting for channel in self._channels)
        return unread + uncut / self.sample_rate + self._owed / (self.sample_rate * form.channels)

    @property
    def backlog_bytes(self) -> int:
        """Bytes not yet converted."""
        return self._intake.pending_bytes

    def wanted_bytes(self) -> int:
        """Audio that must still come for a step, at most WANTED_S of it."""
        return min(self._intake.wanted_bytes - self._intake.pending_bytes, self._most_wanted)

    def arrival(self, position: int) -> float | None:
        """When the audio up to this sample at the model's rate had come; None before any."""
        return self._arrivals.of(self._to_frames(position))

    @property
    def fences(self) -> int:
        """Events that wait for the results before them."""
        return len(self._fences)

    @property
    def speaking(self) -> bool:
        return any(channel.segmenter.speaking for channel in self._channels)

    @property
    def settled(self) -> bool:
        return self._sealed and not self._scoring and all(channel.segmenter.settled for channel in self._channels)

    @property
    def finished(self) -> bool:
        return self.settled and all(channel.results.idle for channel in self._channels)

    @property
    def processed(self) -> int:
        """Frames that were looked at and not lost to a failure (of any channel)."""
        if self.finished:
            lost = max(channel.failed for channel in self._channels)
            return self.received - self._to_frames(lost)
        return self.committed

    @property
    def committed(self) -> int:
        """Frames, from the start, that every result still to come leaves alone."""
        kept = (self._kept_from(channel) for channel in self._channels)
        return min(self.received, self._to_frames(min(kept)))

    def unanswered(self) -> tuple[int, int]:
        """The range, in samples at the model's rate, that has no answer yet."""
        start = min(self._kept_from(channel) for channel in self._channels)
        return start, max(start, self.received * self.sample_rate // self.start.format.sample_rate)

    # What comes in ------------------------------------------------------------------------------

    def audio(self, data: bytes, out: list[Action], now: float) -> bool:
        """Take bytes; True each half second of audio. Most calls are an append and two comparisons."""
        size = len(data)
        self._received_bytes += size
        self.room_bytes -= size
        if self._intake.append(data) and not self._scoring:
            self._pump(out, now, ready=True)
        return self._received_bytes >= self._next_mark and self._mark(out, now)

    def scored(self, channel: int, probabilities: Sequence[float], out: list[Action], now: float) -> None:
        """The scores of what this channel asked for last."""
        self._scoring -= 1
        scored = self._channels[channel]
        if facts := scored.segmenter.scored(probabilities):
            self._tell(scored, facts, out)
        if scored.segmenter.asks:
            self._ask(scored, out, now)
        if not self._scoring and ((ready := self._ready()) or self._ending):
            self._pump(out, now, ready=ready)

    def inferred(self, job: JobId, outcome: Outcome, out: list[Action], now: float) -> None:
        """The model's answer; one that nobody waits for any more is ignored."""
        asked = self._jobs.get(job)
        if asked is None:
            return
        channel = self._channels[asked.channel]
        if isinstance(outcome, Output) and outcome.partial:
            self._partial(channel, asked, outcome, out)
            return
        del self._jobs[job]
        if isinstance(outcome, Output) and outcome.state_lost:
            text = f"the model's worker was lost and with it what it knew of channel {asked.channel}; "
            text += f"it began anew at {asked.wanted.start / self.sample_rate:.3f} s"
            out.append(Emit(Warned(WarningCode.STATE_LOST, text)))
        if asked.wanted.kind is JobKind.INTERIM:
            self._interim(channel, asked, outcome, out)
        else:
            self._owed -= asked.wanted.end - asked.wanted.start
            self._warn_of_lag(now - asked.at, out)
            self._final(channel, asked, outcome, out)
        self._ask(channel, out, now)

    def end_here(self, out: list[Action], now: float) -> None:
        """A boundary: all audio so far is converted to the last sample, scored, and what is open ends."""
        self._ending = True
        if not self._scoring:
            self._pump(out, now, ready=self._ready())

    def go_on(self) -> None:
        """The boundary has been dealt with; more audio comes."""
        self._ending = self._sealed = False
        for channel in self._channels:
            channel.segmenter.unseal()

    def fence(self, event: Event, out: list[Action]) -> None:
        """Emit `event` once every result asked for so far has left."""
        self._fences.put(event)
        out += map(Emit, self._fences.ready())

    def abandon(self, out: list[Action]) -> None:
        """Nobody waits for this stream's answers any more."""
        out += map(Cancel, self._jobs)
        self._jobs.clear()

    def partial_frame_bytes(self) -> int:
        """Bytes at the end that made no whole frame."""
        return self._intake.pending_bytes

    # How it goes on -----------------------------------------------------------------------------

    def _mark(self, out: list[Action], now: float) -> bool:
        """Note when this audio came; True, with an ack, each half second of audio."""
        received = self._received_bytes
        self._arrivals.mark(self.received, now)
        if acked := received >= self._next_ack:
            self._next_ack = received + self._ack_bytes
            committed = self.committed
            self._arrivals.forget(committed)
            out.append(Emit(Ack(self.received, committed)))
        self._next_mark = min(received + self._mark_bytes, self._next_ack)
        return acked

    def _ready(self) -> bool:
        """Whether there is a step to be taken in."""
        return self._intake.pending_bytes >= self._intake.wanted_bytes

    def _pump(self, out: list[Action], now: float, *, ready: bool) -> None:
        """Take in and score until a score is outstanding or nothing is left to take."""
        intake = self._intake
        while True:
            if ready:
                self._spread(intake.take(self._most_steps), out, now)
            elif self._ending and not self._sealed:
                self._sealed = True
                self._spread(intake.drain(), out, now)
            else:
                if self._sealed:
                    self._finish_channels(out, now)
                break
            if self._scoring:
                break
            ready = self._ready()
        if intake.clamped and not self._warned_clamped:
            self._warned_clamped = True
            out.append(Emit(Warned(WarningCode.AUDIO_CLAMPED, "samples that are not finite or not in [-1, 1] came")))

    def _spread(self, samples: Taken, out: list[Action], now: float) -> None:
        """Hand audio to the channels."""
        models, speeches = samples.model, samples.speech
        for index, channel in enumerate(self._channels):
            windows = channel.segmenter.push(models[index], speeches[index], last=self._sealed)
            if windows is None:
                self._ask(channel, out, now)
                continue
            self._scoring += 1
            out.append(Score(channel.index, windows, channel.fresh))
            channel.fresh = False

    def _finish_channels(self, out: list[Action], now: float) -> None:
        for channel in self._channels:
            self._tell(channel, channel.segmenter.finish(), out)
            self._ask(channel, out, now)

    def _tell(self, channel: Channel, events: Sequence[Fact], out: list[Action]) -> None:
        for event in events:
            if isinstance(event, SpeechEnded) and channel.interim is not None:
                out.append(Cancel(channel.interim))
                del self._jobs[channel.interim]
                channel.interim = None
                self.tally.interims_dropped += 1
            out.append(Emit(event))

    def _ask(self, channel: Channel, out: list[Action], now: float) -> None:
        """Ask the model for all that is due on this channel."""
        free = self._inflight - (channel.results.asked - channel.results.released)
        for wanted in channel.segmenter.wanted(max(0, free)):
            job = self._infer(channel, wanted, out, now)
            channel.results.ask(job)
            self._owed += wanted.end - wanted.start
            self.tally.answered_for += wanted.end - wanted.start
        if channel.interim is None and (due := channel.segmenter.interim()):
            channel.interim = self._infer(channel, due, out, now)

    def _infer(self, channel: Channel, wanted: Wanted, out: list[Action], now: float) -> JobId:
        job = self.next_job
        self.next_job += 1
        self._jobs[job] = Asked(job, channel.index, wanted, now)
        samples = channel.segmenter.samples(wanted.start, wanted.end)
        out.append(
            Infer(
                Job(
                    id=job,
                    session_id=self._session_id,
                    stream=self.number,
                    channel=channel.index,
                    segment_id=wanted.segment_id,
                    kind=wanted.kind,
                    start=wanted.start,
                    samples=samples,
                    sample_rate=self.sample_rate,
                    options=self.start.options,
                )
            )
        )
        return job

    # Answers ------------------------------------------------------------------------------------

    def _final(self, channel: Channel, asked: Asked, outcome: Outcome, out: list[Action]) -> None:
        wanted, tally = asked.wanted, self.tally
        if isinstance(outcome, Output):
            event: Event = self._segment(asked, outcome, final=True)
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

    def _interim(self, channel: Channel, asked: Asked, outcome: Outcome, out: list[Action]) -> None:
        """An interim that failed or was shed is no loss (its final will cover the range); neither is one that would
        overtake an earlier utterance's final."""
        channel.interim = None
        if isinstance(outcome, Output) and channel.results.idle:
            self.tally.interims += 1
            out.append(Emit(self._segment(asked, outcome, final=False)))
            return
        self.tally.interims_dropped += 1
        if isinstance(outcome, Shed) and outcome.overload and not self._warned_shed:
            self._warned_shed = True
            text = "interims are left out: the model has more to do than it can"
            out.append(Emit(Warned(WarningCode.INTERIMS_SHED, text)))

    def _partial(self, channel: Channel, asked: Asked, outcome: Output, out: list[Action]) -> None:
        """One item of a generator's answer: an interim where interims were asked for and its turn has come."""
        final = asked.wanted.kind is not JobKind.INTERIM
        turn = channel.results.is_next(asked.job) if final else channel.results.idle
        if self.start.interim_results and turn:
            self.tally.interims += 1
            out.append(Emit(self._segment(asked, outcome, final=False)))

    def _segment(self, asked: Asked, outcome: Output, *, final: bool) -> Segment:
        wanted = asked.wanted
        return Segment(asked.channel, wanted.segment_id, wanted.start, wanted.end, final, outcome.value)

    def _warn_of_lag(self, took: float, out: list[Action]) -> None:
        lagging = took > self._settings.lag_warning_s
        if lagging and not self._warned_lag:
            out.append(Emit(Warned(WarningCode.LAGGING, f"results come {took:.1f} s after their audio was complete")))
        self._warned_lag = lagging

    def _kept_from(self, channel: Channel) -> int:
        owed = channel.results.first
        kept = channel.segmenter.kept_from
        return kept if owed is None else min(kept, self._jobs[owed].wanted.start)

    def _to_frames(self, samples: int) -> int:
        return samples * self.start.format.sample_rate // self.sample_rate


def _why(outcome: Outcome) -> tuple[ErrorCode, str]:
    if isinstance(outcome, JobFailed):
        return outcome.code, outcome.message
    return ErrorCode.INTERNAL, "the engine gave no answer"
