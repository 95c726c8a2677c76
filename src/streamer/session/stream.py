"""One stream: its audio, its segmenters, its pending jobs. The session validates the client's messages."""

from __future__ import annotations

from collections.abc import Sequence
from sys import maxsize

import numpy as np

from streamer.audio.buffer import SAMPLE_BYTES
from streamer.session.actions import Action, Cancel, Emit, Infer, Job, JobId, JobKind, Outcome, Output, Score
from streamer.session.answers import Answers, Tally
from streamer.session.arrivals import INTERVAL_S, OUTPUT_INTERVAL_S, Arrivals
from streamer.session.channel import (
    Channel,
    channels_for,
    intake_of,
    interim_interval,
    kept_bytes_per_second,
    most_steps_for,
    overlap_of,
)
from streamer.session.checking import checked_vad, with_changes
from streamer.session.events import Ack, EndReason, Event, Mode, SpeechEnded, Warned, WarningCode
from streamer.session.intake import Taken
from streamer.session.jobs import Asked, OutstandingJobs
from streamer.session.messages import Configure, Start
from streamer.session.ordering import Fences
from streamer.session.outputs import output_for
from streamer.session.progress import ProgressReports
from streamer.session.segmenting import Fact, Wanted
from streamer.session.settings import SessionSettings
from streamer.vad.settings import VadConfig

WANTED_S = 0.032
"""Seconds of audio in a window. Longer pieces are processed in steps of this size as well."""
COUNT_BYTES = 64 * 1024
"""Bytes of audio after which the memory is counted again, if half a second of audio is more."""


class Stream:
    """The audio of one start, until its last result.

    Methods append actions to `out`. After `end_here`, `settled` becomes true when everything before the barrier was
    scored and requested, `finished` when every result has left as well.
    """

    def __init__(
        self, settings: SessionSettings, start: Start, vad: VadConfig, session_id: str, number: int, first_job: JobId
    ) -> None:
        self.start = start
        self._settings = settings
        self.number = number
        self.next_job = first_job
        self._session_id = session_id
        self.sample_rate = settings.model_sample_rate
        """Sample rate of all positions in Hz: the model's."""
        segmented = settings.mode is Mode.SEGMENTED
        self._inflight = maxsize if segmented else 1 if settings.stateful else settings.max_inflight
        form, limits = start.format, settings.limits
        self._intake, coding = intake_of(settings, start)
        self._most_steps = most_steps_for(settings, start)
        self._channels = channels_for(settings, start, vad, coding)
        self._fences = Fences([channel.results for channel in self._channels])
        self.output = output_for(settings, start, [channel.results for channel in self._channels])
        """Audio that it answers with; None without."""
        self._answers = Answers(
            self._fences, self.output, interim_results=start.interim_results, lag_warning_s=settings.lag_warning_s
        )
        self._overlap = overlap_of(settings)
        self._jobs = OutstandingJobs(limits.max_job_bytes)
        self._postponed = False
        """Ranges wait until the pending jobs use less memory. No more audio is taken in meanwhile."""
        self._max_jobs = limits.max_job_bytes
        self._max_kept = limits.max_kept_bytes
        self._max_bytes = limits.max_session_bytes
        self._growth = max(0.0, kept_bytes_per_second(settings, start) / (form.frame_bytes * form.sample_rate) - 1.0)
        self._scoring = 0
        self._scored_bytes = 0
        """Bytes being scored."""
        self._ending = self._sealed = False
        self._end_reason = EndReason.STOP
        self._progress = ProgressReports.of(start, self.sample_rate)
        self._received_bytes = 0
        self.room_bytes = int(limits.max_stream_s * form.sample_rate) * form.frame_bytes
        """Bytes that may still arrive within the maximum length of a stream."""
        self._ack_bytes = self._next_ack = max(1, form.sample_rate // 2) * form.frame_bytes
        self._next_count = COUNT_BYTES
        self._most_wanted = round(WANTED_S * form.sample_rate) * form.frame_bytes
        self._arrivals = Arrivals()
        interval_s = INTERVAL_S if self.output is None else OUTPUT_INTERVAL_S
        self._mark_bytes = max(1, round(interval_s * form.sample_rate)) * form.frame_bytes
        self._next_arrival = self._next_mark = form.frame_bytes
        self._warned_clamped = False

    # Queries of the session ---------------------------------------------------------------------

    @property
    def received(self) -> int:
        """Number of whole frames received."""
        return self._received_bytes // self.start.format.frame_bytes

    @property
    def received_s(self) -> float:
        return self.received / self.start.format.sample_rate

    @property
    def backlog_s(self) -> float:
        """Seconds of audio to be converted, scored or answered."""
        form = self.start.format
        unread = self._intake.pending_bytes / (form.frame_bytes * form.sample_rate)
        uncut = max(channel.segmenter.waiting for channel in self._channels)
        return unread + uncut / self.sample_rate + self._jobs.owed / (self.sample_rate * form.channels)

    @property
    def held_bytes(self) -> int:
        """Bytes of memory for its audio: undecoded, in open speech, being scored, and in jobs."""
        scored = self._scored_bytes if self._scoring else 0
        output = self.output.nbytes if self.output is not None else 0
        return self._intake.nbytes + self._kept_bytes() + scored + self._jobs.owed_bytes + output

    def reserved_bytes(self, pending: int) -> int:
        """Return the bytes needed beyond `held_bytes` without further reading: for jobs, and for decoded audio.

        `pending`: bytes of audio that wait for an earlier barrier.
        """
        growing = int((self._intake.pending_bytes + pending) * self._growth)
        return growing + max(0, self._max_jobs - self._jobs.owed_bytes)

    @property
    def is_waiting(self) -> bool:
        """Whether an answer of the scorer or the model is pending, or audio that the client has not taken."""
        is_playing = self.output is not None and not self.output.is_idle
        return self._scoring > 0 or len(self._jobs) > 0 or is_playing

    def wanted_bytes(self) -> int:
        """Return the bytes of audio needed for a step, at most WANTED_S."""
        return min(self._intake.wanted_bytes - self._intake.pending_bytes, self._most_wanted)

    def arrival(self, position: int) -> float | None:
        """Return the arrival time of the audio up to this sample at the model's rate; None before any."""
        return self._arrivals.of(self._to_frames(position))

    @property
    def fences(self) -> int:
        """Number of events that wait for earlier results."""
        return len(self._fences)

    @property
    def tally(self) -> Tally:
        """Counters of the stream."""
        return self._answers.tally

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
        """Frames that were processed and not lost to a failure (of any channel)."""
        if self.finished:
            lost = max(channel.failed for channel in self._channels)
            return self.received - self._to_frames(lost)
        return self.committed

    @property
    def committed(self) -> int:
        """Frames from the start that no later result will cover."""
        kept = min([self._kept_from(channel) for channel in self._channels])
        if self.output is not None:
            kept = min(kept, self.output.covered)
        return min(self.received, self._to_frames(kept))

    def unanswered(self) -> tuple[int, int]:
        """Return the range without a result, in samples at the model's rate."""
        start = min(self._kept_from(channel) for channel in self._channels)
        return start, max(start, self.received * self.sample_rate // self.start.format.sample_rate)

    # Input --------------------------------------------------------------------------------------

    def audio(self, data: bytes, out: list[Action], now: float) -> bool:
        """Append bytes; return whether the memory should be counted: each half second of audio, or COUNT_BYTES.

        Most calls cost an append and two comparisons.
        """
        size = len(data)
        self._received_bytes += size
        self.room_bytes -= size
        if self._intake.append(data) and not self._scoring:
            self._pump(out, now, ready=True)
        return self._received_bytes >= self._next_mark and self._mark(out, now)

    def scored(self, channel: int, probabilities: Sequence[float], out: list[Action], now: float) -> None:
        """Take the scores of the last request of this channel."""
        self._scoring -= 1
        scored = self._channels[channel]
        if facts := scored.segmenter.scored(probabilities):
            self._tell(scored, facts, out)
        if scored.segmenter.asks:
            self._ask(scored, out, now)
        if self._progress is not None and not self._scoring:
            out += map(Emit, self._progress.due(self._channels))
        self._go_on(out, now)

    def configure(self, changes: Configure) -> Start:
        """Change the settings; return the start that has them. An invalid one raises StreamerError, without effect."""
        start = with_changes(self.start, changes)
        vad, interval_ms = checked_vad(start, self._settings), interim_interval(self._settings, start)
        self.start = start
        self._answers.configure(interim_results=start.interim_results)
        for channel in self._channels:
            channel.segmenter.configure(vad, interval_ms)
        return start

    def inferred(self, job: JobId, outcome: Outcome, out: list[Action], now: float) -> None:
        """Take the model's answer; one for a cancelled job is ignored."""
        asked = self._jobs.find(job)
        if asked is None:
            return
        channel, answers = self._channels[asked.channel], self._answers
        if isinstance(outcome, Output) and outcome.partial:
            answers.partial(channel, asked, outcome, out)
            if self.output is not None:
                self.output.release(out, now)
            return
        self._jobs.remove(job)
        if asked.wanted.segment_id == 0:
            answers.tail(asked, outcome, out)
            return
        if isinstance(outcome, Output) and outcome.state_lost:
            text = f"the model's state for channel {asked.channel} was lost with its worker; "
            text += f"processing restarted at {asked.wanted.start / self.sample_rate:.3f} s"
            out.append(Emit(Warned(WarningCode.STATE_LOST, text)))
        if asked.wanted.kind is JobKind.INTERIM:
            channel.interim = None
            answers.interim(channel, asked, outcome, out)
        else:
            answers.warn_of_lag(now - asked.at, out)
            answers.final(channel, asked, outcome, out)
        if self._postponed:
            self._ask_postponed(channel, out, now)
        self._ask(channel, out, now)
        self._go_on(out, now)
        if self.output is not None:
            self.output.release(out, now)

    def end_here(self, reason: EndReason, out: list[Action], now: float) -> None:
        """Start a barrier: convert all audio so far to the last sample, score it, and end open speech."""
        self._ending, self._end_reason = True, reason
        if not self._scoring:
            self._pump(out, now, ready=self._ready())

    def go_on(self) -> None:
        """Continue after a barrier."""
        self._ending = self._sealed = False
        for channel in self._channels:
            channel.segmenter.unseal()

    def fence(self, event: Event, out: list[Action]) -> None:
        """Emit `event` after every result requested so far has left."""
        self._fences.put(event)
        for ready in self._fences.ready():
            if self.output is not None:
                self.output.follow(ready, out)
            else:
                out.append(Emit(ready))

    def abandon(self, out: list[Action]) -> None:
        """Cancel all jobs."""
        out += map(Cancel, self._jobs.clear())

    def partial_frame_bytes(self) -> int:
        """Return the bytes of an incomplete frame at the end."""
        return self._intake.pending_bytes

    # Audio out ----------------------------------------------------------------------------------

    def play(self, out: list[Action], now: float) -> None:
        """Emit the audio that may be sent; continue to ask the model if it had to wait for this."""
        output = self.output
        if output is None:
            return
        output.release(out, now)
        if self._postponed and not output.is_full:
            self._ask_postponed(self._channels[-1], out, now)
            self._ask(self._channels[-1], out, now)
            self._go_on(out, now)

    def has_played(self, out: list[Action], now: float) -> bool:
        """Return whether all audio was emitted, after the last result; ask the model for the rest of it."""
        output = self.output
        if output is None:
            return True
        if (tail := output.take_tail(self._channels[0].segmenter.kept_from)) is not None:
            for channel in self._channels:
                self._infer(channel, tail, out, now)
        if len(self._jobs):
            return False
        output.finish(self.received, self.start.format.sample_rate)
        output.release(out, now)
        return output.is_idle

    def clear(self, out: list[Action], now: float) -> int:
        """Drop the audio that was not emitted; return its frames."""
        return self.output.clear(self.next_job, out, now) if self.output is not None else 0

    # How it goes on -----------------------------------------------------------------------------

    def _mark(self, out: list[Action], now: float) -> bool:
        """Store the arrival time, send an ack each half second, and return whether to count the memory."""
        received = self._received_bytes
        if received >= self._next_arrival:
            self._arrivals.mark(self.received, now)
            self._next_arrival = received + self._mark_bytes
        if acked := received >= self._next_ack:
            self._next_ack = received + self._ack_bytes
            committed = self.committed
            self._arrivals.forget(committed)
            out.append(Emit(Ack(self.received, committed)))
        if counted := acked or received >= self._next_count:
            self._next_count = received + COUNT_BYTES
        self._next_mark = min(min(self._next_arrival, self._next_ack), self._next_count)  # noqa: PLW3301 (compiles)
        return counted

    def _ready(self) -> bool:
        """Return whether a conversion step is possible."""
        return self._intake.pending_bytes >= self._intake.wanted_bytes

    def _go_on(self, out: list[Action], now: float) -> None:
        """Continue after an answer: scores were pending, or jobs used too much memory."""
        if not self._scoring and ((ready := self._ready()) or self._ending):
            self._pump(out, now, ready=ready)

    def _kept_bytes(self) -> int:
        """Return the bytes of audio that segmenters store, and of its copies in interims."""
        kept = self._jobs.interim_bytes
        for channel in self._channels:  # compiled, a loop costs less than a sum, and than counting at each change
            kept += channel.segmenter.nbytes
        return kept

    def _pump(self, out: list[Action], now: float, *, ready: bool) -> None:
        """Convert and score until a score is pending, no audio is left, or too much memory waits for jobs."""
        intake = self._intake
        while True:
            if self._postponed or (len(self._jobs) and self._kept_bytes() > self._max_kept):
                break
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
            out.append(Emit(Warned(WarningCode.AUDIO_CLAMPED, "samples outside of [-1, 1] or not finite were clamped")))

    def _spread(self, taken: Taken, out: list[Action], now: float) -> None:
        """Push audio to the channels."""
        models, speeches, self._scored_bytes = taken
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
            self._tell(channel, channel.segmenter.finish(self._end_reason), out)
            self._ask(channel, out, now)

    def _tell(self, channel: Channel, events: Sequence[Fact], out: list[Action]) -> None:
        for event in events:
            if isinstance(event, SpeechEnded) and channel.interim is not None:
                out.append(Cancel(channel.interim))
                self._jobs.remove(channel.interim)
                channel.interim = None
                self.tally.interims_dropped += 1
            out.append(Emit(event))

    def _ask(self, channel: Channel, out: list[Action], now: float) -> None:
        """Request the results that are due on this channel, as far as there is memory."""
        jobs, segmenter, results = self._jobs, channel.segmenter, channel.results
        while results.asked - results.released < self._inflight and (length := segmenter.next_length) is not None:
            if not jobs.has_room(length) or (self.output is not None and self.output.is_full):
                self._postponed = True
                break
            wanted = segmenter.next_wanted()
            assert wanted is not None
            results.ask(self._infer(channel, wanted, out, now))
            self.tally.answered_for += length
        if channel.interim is None and (due := segmenter.interim()):
            if self._has_room_for_interim((due.end - due.start) * SAMPLE_BYTES):
                channel.interim = self._infer(channel, due, out, now)
            else:
                self.tally.interims_dropped += 1

    def _has_room_for_interim(self, size: int) -> bool:
        """Return whether a copy of this many bytes fits beside the stored audio, and beside all that was read."""
        fits = self.held_bytes + self.reserved_bytes(0) + size <= self._max_bytes
        return fits and self._kept_bytes() + size <= self._max_kept

    def _ask_postponed(self, after: Channel, out: list[Action], now: float) -> None:
        """Request the ranges that had no memory before; each channel has its turn."""
        self._postponed = False
        for channel in (*self._channels[after.index + 1 :], *self._channels[: after.index]):
            self._ask(channel, out, now)

    def _infer(self, channel: Channel, wanted: Wanted, out: list[Action], now: float) -> JobId:
        job = self.next_job
        self.next_job += 1
        self._jobs.add(Asked(job, channel.index, wanted, now))
        start, overlap = wanted.start, 0
        if self._overlap and wanted.segment_id:
            overlap = min(self._overlap, start)
            start -= overlap
        if wanted.segment_id:
            samples = channel.segmenter.samples(start, wanted.end)
        else:
            samples = np.zeros(wanted.end - start, np.float32)
        number, rate, options = self.number, self.sample_rate, self.start.options
        index, segment_id, kind = channel.index, wanted.segment_id, wanted.kind
        out.append(
            Infer(Job(job, self._session_id, number, index, segment_id, kind, start, samples, rate, options, overlap))
        )
        return job

    def _kept_from(self, channel: Channel) -> int:
        owed = channel.results.first
        kept = channel.segmenter.kept_from
        return kept if owed is None else min(kept, self._jobs[owed].wanted.start)

    def _to_frames(self, samples: int) -> int:
        return samples * self.start.format.sample_rate // self.sample_rate
