"""One stream: its audio, its segmenters, its pending jobs. The session validates the client's messages."""

from __future__ import annotations

from collections.abc import Sequence

from streamer.audio.buffer import SAMPLE_BYTES
from streamer.session.actions import Action, Cancel, Emit, JobId, JobKind, Outcome, Output, Score
from streamer.session.answers import Answers, StreamCounters
from streamer.session.arrival_times import ReceiveMarks
from streamer.session.channel import (
    Channel,
    channels_for,
    input_pipeline_of,
    interim_interval,
    kept_bytes_per_second,
    max_steps_for,
)
from streamer.session.events import Ack, EndReason, Event, SpeechEnded
from streamer.session.input_pipeline import InputChunk
from streamer.session.messages import Configure, Start
from streamer.session.outputs import output_for
from streamer.session.progress import ProgressReports
from streamer.session.reordering import Fences
from streamer.session.requests import ModelRequests
from streamer.session.segmenter import SegmenterEvent
from streamer.session.settings import SessionSettings
from streamer.session.validation import validate_vad, with_changes
from streamer.vad.settings import VadConfig

MAX_LOW_WATERMARK_S = 0.032
"""Seconds of audio in a window. Longer pieces are processed in steps of this size as well."""


class Stream:
    """The audio of one start, until its last result.

    Methods append actions to `out`. After `begin_barrier`, `is_drained` becomes true when everything before the barrier
    was scored and requested, `finished` when every result has left as well.
    """

    def __init__(
        self, settings: SessionSettings, start: Start, vad: VadConfig, session_id: str, number: int, first_job: JobId
    ) -> None:
        self.start = start
        self._settings = settings
        self.number = number
        self.sample_rate = settings.model_sample_rate
        """Sample rate of all positions in Hz: the model's."""
        form, limits = start.format, settings.limits
        self._input, decoder = input_pipeline_of(settings, start)
        self._max_steps = max_steps_for(settings, start)
        self._channels = channels_for(settings, start, vad, decoder)
        self._fences = Fences([channel.results for channel in self._channels])
        self.output = output_for(settings, start, [channel.results for channel in self._channels])
        """Audio that it answers with; None without."""
        self._answers = Answers(
            self._fences, self.output, interim_results=start.interim_results, lag_warning_s=settings.lag_warning_s
        )
        self._requests = ModelRequests(
            settings, start, session_id, number, first_job, self.output, self._answers.counters
        )
        self._jobs = self._requests.jobs
        self._max_jobs = limits.max_job_bytes
        self._max_kept, self._max_bytes = limits.max_kept_bytes, limits.max_session_bytes
        self._growth = max(0.0, kept_bytes_per_second(settings, start) / (form.frame_bytes * form.sample_rate) - 1.0)
        self._pending_scores = 0
        self._scored_bytes = 0
        """Bytes being scored."""
        self._at_barrier = self._is_drained = False
        self._end_reason = EndReason.STOP
        self._progress = ProgressReports.of(start, self.sample_rate)
        self._received_bytes = 0
        self.remaining_bytes = int(limits.max_stream_s * form.sample_rate) * form.frame_bytes
        """Bytes that may still arrive within the maximum length of a stream."""
        self._max_low_watermark = round(MAX_LOW_WATERMARK_S * form.sample_rate) * form.frame_bytes
        self._marks = ReceiveMarks(form, has_output=self.output is not None)

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
        unread = self._input.pending_bytes / (form.frame_bytes * form.sample_rate)
        uncut = max(channel.segmenter.pending_samples for channel in self._channels)
        return unread + uncut / self.sample_rate + self._jobs.owed / (self.sample_rate * form.channels)

    @property
    def held_bytes(self) -> int:
        """Bytes of memory for its audio: undecoded, in open speech, being scored, and in jobs."""
        scored = self._scored_bytes if self._pending_scores else 0
        output = self.output.nbytes if self.output is not None else 0
        return self._input.nbytes + self._kept_bytes() + scored + self._jobs.owed_bytes + output

    def reserved_bytes(self, pending: int) -> int:
        """Return the bytes needed beyond `held_bytes` without further reading: for jobs, and for decoded audio.

        `pending`: bytes of audio that wait for an earlier barrier.
        """
        growing = int((self._input.pending_bytes + pending) * self._growth)
        return growing + max(0, self._max_jobs - self._jobs.owed_bytes)

    @property
    def is_waiting(self) -> bool:
        """Whether an answer of the scorer or the model is pending, or audio that the client has not taken."""
        is_playing = self.output is not None and not self.output.is_idle
        return self._pending_scores > 0 or len(self._jobs) > 0 or is_playing

    def low_watermark_bytes(self) -> int:
        """Return the bytes of audio needed for a step, at most MAX_LOW_WATERMARK_S."""
        return min(self._input.low_watermark_bytes - self._input.pending_bytes, self._max_low_watermark)

    def arrival(self, position: int) -> float | None:
        """Return the arrival time of the audio up to this sample at the model's rate; None before any."""
        return self._marks.times.at(self._to_frames(position))

    @property
    def next_job(self) -> JobId:
        """Id of the next job."""
        return self._requests.next_job

    @property
    def fences(self) -> int:
        """Number of events that wait for earlier results."""
        return len(self._fences)

    @property
    def counters(self) -> StreamCounters:
        """Counters of the stream."""
        return self._answers.counters

    @property
    def is_speaking(self) -> bool:
        return any(channel.segmenter.is_speaking for channel in self._channels)

    @property
    def is_drained(self) -> bool:
        return (
            self._is_drained
            and not self._pending_scores
            and all(channel.segmenter.is_drained for channel in self._channels)
        )

    @property
    def is_finished(self) -> bool:
        return self.is_drained and all(channel.results.is_empty for channel in self._channels)

    @property
    def processed(self) -> int:
        """Frames that were processed and not lost to a failure (of any channel)."""
        if self.is_finished:
            failed_samples = max(channel.failed_samples for channel in self._channels)
            return self.received - self._to_frames(failed_samples)
        return self.committed

    @property
    def committed(self) -> int:
        """Frames from the start that no later result will cover."""
        position = min([self._needed_from(channel) for channel in self._channels])
        if self.output is not None:
            position = min(position, self.output.covered)
        return min(self.received, self._to_frames(position))

    def unanswered(self) -> tuple[int, int]:
        """Return the range without a result, in samples at the model's rate."""
        start = min(self._needed_from(channel) for channel in self._channels)
        return start, max(start, self.received * self.sample_rate // self.start.format.sample_rate)

    # Input --------------------------------------------------------------------------------------

    def append(self, data: bytes, out: list[Action], now: float) -> bool:
        """Append bytes; return whether the memory should be counted: each half second of audio, or COUNT_BYTES.

        Most calls cost an append and two comparisons.
        """
        size = len(data)
        self._received_bytes += size
        self.remaining_bytes -= size
        if self._input.append(data) and not self._pending_scores:
            self._pump(out, now, ready=True)
        return self._received_bytes >= self._marks.next and self._mark_arrival(out, now)

    def on_scores(self, channel: int, probabilities: Sequence[float], out: list[Action], now: float) -> None:
        """Take the scores of the last request of this channel."""
        self._pending_scores -= 1
        scored = self._channels[channel]
        if facts := scored.segmenter.on_scores(probabilities):
            self._emit_speech(scored, facts, out)
        if scored.segmenter.has_requests:
            self._request_due(scored, out, now)
        if self._progress is not None and not self._pending_scores:
            out += map(Emit, self._progress.due(self._channels))
        self._go_on(out, now)

    def configure(self, changes: Configure) -> Start:
        """Change the settings; return the start that has them. An invalid one raises StreamerError, without effect."""
        start = with_changes(self.start, changes)
        vad, interval_ms = validate_vad(start, self._settings), interim_interval(self._settings, start)
        self.start, self._requests.options = start, start.options
        self._answers.configure(interim_results=start.interim_results)
        for channel in self._channels:
            channel.segmenter.configure(vad, interval_ms)
        return start

    def on_outcome(self, job: JobId, outcome: Outcome, out: list[Action], now: float) -> None:
        """Take the model's answer; one for a cancelled job is ignored."""
        pending = self._jobs.find(job)
        if pending is None:
            return
        channel, answers = self._channels[pending.channel], self._answers
        if isinstance(outcome, Output) and outcome.partial:
            answers.partial(channel, pending, outcome, out)
            if self.output is not None:
                self.output.release(out, now)
            return
        self._jobs.remove(job)
        if pending.audio_range.segment_id == 0:
            answers.tail(pending, outcome, out)
            return
        if isinstance(outcome, Output) and outcome.state_lost:
            answers.warn_of_lost_state(pending, self.sample_rate, out)
        if pending.audio_range.kind is JobKind.INTERIM:
            channel.interim = None
            answers.interim(channel, pending, outcome, out)
        else:
            answers.warn_of_lag(now - pending.requested_at, out)
            answers.final(channel, pending, outcome, out)
        if self._requests.is_postponed:
            self._ask_postponed(channel, out, now)
        self._request_due(channel, out, now)
        self._go_on(out, now)
        if self.output is not None:
            self.output.release(out, now)

    def begin_barrier(self, reason: EndReason, out: list[Action], now: float) -> None:
        """Start a barrier: convert all audio so far to the last sample, score it, and end open speech."""
        self._at_barrier, self._end_reason = True, reason
        if not self._pending_scores:
            self._pump(out, now, ready=self._has_step())

    def resume(self) -> None:
        """Continue after a barrier."""
        self._at_barrier = self._is_drained = False
        for channel in self._channels:
            channel.segmenter.resume()

    def fence(self, event: Event, out: list[Action]) -> None:
        """Emit `event` after every result requested so far has left."""
        self._answers.fence(event, out)

    def cancel_jobs(self, out: list[Action]) -> None:
        """Cancel all jobs."""
        out += map(Cancel, self._jobs.clear())

    def partial_frame_bytes(self) -> int:
        """Return the bytes of an incomplete frame at the end."""
        return self._input.pending_bytes

    # Audio out ----------------------------------------------------------------------------------

    def play(self, out: list[Action], now: float) -> None:
        """Emit the audio that may be sent; continue to ask the model if it had to wait for this."""
        output = self.output
        if output is None:
            return
        output.release(out, now)
        if self._requests.is_postponed and not output.is_full:
            self._ask_postponed(self._channels[-1], out, now)
            self._request_due(self._channels[-1], out, now)
            self._go_on(out, now)

    def has_played(self, out: list[Action], now: float) -> bool:
        """Return whether all audio was emitted, after the last result; ask the model for the rest of it."""
        output = self.output
        if output is None:
            return True
        if (tail := output.take_tail(self._channels[0].segmenter.needed_from)) is not None:
            for channel in self._channels:
                self._requests.submit(channel, tail, out, now)
        if len(self._jobs):
            return False
        output.finish(self.received, self.start.format.sample_rate)
        output.release(out, now)
        return output.is_idle

    def clear(self, out: list[Action], now: float) -> int:
        """Drop the audio that was not emitted; return its frames."""
        return self.output.clear(self._requests.next_job, out, now) if self.output is not None else 0

    # How it goes on -----------------------------------------------------------------------------

    def _mark_arrival(self, out: list[Action], now: float) -> bool:
        """Store the arrival time, send an ack each half second, and return whether to count the memory."""
        is_ack_due, is_count_due = self._marks.reach(self._received_bytes, self.received, now)
        if is_ack_due:
            committed = self.committed
            self._marks.times.forget(committed)
            out.append(Emit(Ack(self.received, committed)))
        return is_count_due

    def _has_step(self) -> bool:
        """Return whether a conversion step is possible."""
        return self._input.pending_bytes >= self._input.low_watermark_bytes

    def _go_on(self, out: list[Action], now: float) -> None:
        """Continue after an answer: scores were pending, or jobs used too much memory."""
        if not self._pending_scores and ((ready := self._has_step()) or self._at_barrier):
            self._pump(out, now, ready=ready)

    def _kept_bytes(self) -> int:
        """Return the bytes of audio that segmenters store, and of its copies in interims."""
        total = self._jobs.interim_bytes
        for channel in self._channels:  # compiled, a loop costs less than a sum, and than counting at each change
            total += channel.segmenter.nbytes
        return total

    def _pump(self, out: list[Action], now: float, *, ready: bool) -> None:
        """Convert and score until a score is pending, no audio is left, or too much memory waits for jobs."""
        pipeline = self._input
        while True:
            if self._requests.is_postponed or (len(self._jobs) and self._kept_bytes() > self._max_kept):
                break
            if ready:
                self._push(pipeline.take(self._max_steps), out, now)
            elif self._at_barrier and not self._is_drained:
                self._is_drained = True
                self._push(pipeline.drain(), out, now)
            else:
                if self._is_drained:
                    self._finish_channels(out, now)
                break
            if self._pending_scores:
                break
            ready = self._has_step()
        if pipeline.clamped:
            self._answers.warn_of_clamped_audio(out)

    def _push(self, chunk: InputChunk, out: list[Action], now: float) -> None:
        """Push audio to the channels."""
        models, speeches, self._scored_bytes = chunk
        for index, channel in enumerate(self._channels):
            windows = channel.segmenter.push(models[index], speeches[index], last=self._is_drained)
            if windows is None:
                self._request_due(channel, out, now)
                continue
            self._pending_scores += 1
            out.append(Score(channel.index, windows, channel.is_unscored))
            channel.is_unscored = False

    def _finish_channels(self, out: list[Action], now: float) -> None:
        for channel in self._channels:
            self._emit_speech(channel, channel.segmenter.finish(self._end_reason), out)
            self._request_due(channel, out, now)

    def _emit_speech(self, channel: Channel, events: Sequence[SegmenterEvent], out: list[Action]) -> None:
        for event in events:
            if isinstance(event, SpeechEnded) and channel.interim is not None:
                out.append(Cancel(channel.interim))
                self._jobs.remove(channel.interim)
                channel.interim = None
                self.counters.interims_dropped += 1
            out.append(Emit(event))

    def _request_due(self, channel: Channel, out: list[Action], now: float) -> None:
        """Request the results that are due on this channel, as far as there is memory."""
        self._requests.request_results(channel, out, now)
        if channel.interim is None and (due := channel.segmenter.due_interim()):
            if self._has_room_for_interim((due.end - due.start) * SAMPLE_BYTES):
                channel.interim = self._requests.submit(channel, due, out, now)
            else:
                self.counters.interims_dropped += 1

    def _has_room_for_interim(self, size: int) -> bool:
        """Return whether a copy of this many bytes fits beside the stored audio, and beside all that was read."""
        fits = self.held_bytes + self.reserved_bytes(0) + size <= self._max_bytes
        return fits and self._kept_bytes() + size <= self._max_kept

    def _ask_postponed(self, after: Channel, out: list[Action], now: float) -> None:
        """Request the ranges that had no memory before; each channel has its turn."""
        self._requests.is_postponed = False
        for channel in (*self._channels[after.index + 1 :], *self._channels[: after.index]):
            self._request_due(channel, out, now)

    def _needed_from(self, channel: Channel) -> int:
        first_job = channel.results.first
        needed = channel.segmenter.needed_from
        return needed if first_job is None else min(needed, self._jobs[first_job].audio_range.start)

    def _to_frames(self, samples: int) -> int:
        return samples * self.start.format.sample_rate // self.sample_rate
