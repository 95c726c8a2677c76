"""Requests of one stream to the model, as far as there is memory for their jobs."""

from __future__ import annotations

from sys import maxsize

import numpy as np

from streamer.session.actions import Action, Infer, Job, JobId
from streamer.session.answers import StreamCounters
from streamer.session.audio_out import AudioOutput
from streamer.session.channel import Channel, overlap_of
from streamer.session.events import Mode
from streamer.session.jobs import OutstandingJobs, PendingJob
from streamer.session.messages import Start
from streamer.session.segmenter import AudioRange
from streamer.session.settings import SessionSettings


class ModelRequests:
    """Makes jobs of ranges of audio. `output`: audio that the stream answers with, which bounds the requests too."""

    def __init__(
        self,
        settings: SessionSettings,
        start: Start,
        session_id: str,
        stream: int,
        first_job: JobId,
        output: AudioOutput | None,
        counters: StreamCounters,
    ) -> None:
        self.jobs = OutstandingJobs(settings.limits.max_job_bytes)
        self.next_job = first_job
        self.is_postponed = False
        """Ranges wait until the pending jobs use less memory. No more audio is taken in meanwhile."""
        self.options = start.options
        """Options of the client, passed to the model."""
        segmented = settings.mode is Mode.SEGMENTED
        self._max_in_flight = maxsize if segmented else 1 if settings.stateful else settings.max_inflight
        self._session_id = session_id
        self._stream = stream
        self._sample_rate = settings.model_sample_rate
        self._overlap = overlap_of(settings)
        self._output = output
        self._counters = counters

    def request_results(self, channel: Channel, out: list[Action], now: float) -> None:
        """Request the finals or pieces that are due on a channel, until the jobs use too much memory."""
        segmenter, results = channel.segmenter, channel.results
        while (
            results.requested_count - results.emitted_count < self._max_in_flight
            and (length := segmenter.next_length) is not None
        ):
            if not self.jobs.has_room(length) or (self._output is not None and self._output.is_full):
                self.is_postponed = True
                break
            audio_range = segmenter.next_range()
            assert audio_range is not None
            results.expect(self.submit(channel, audio_range, out, now))
            self._counters.answered_samples += length

    def submit(self, channel: Channel, audio_range: AudioRange, out: list[Action], now: float) -> JobId:
        """Request the result of a range; one of segment 0 is the silence after the end of the stream."""
        job = self.next_job
        self.next_job += 1
        self.jobs.add(PendingJob(job, channel.index, audio_range, now))
        start, overlap = audio_range.start, 0
        if self._overlap and audio_range.segment_id:
            overlap = min(self._overlap, start)
            start -= overlap
        if audio_range.segment_id:
            samples = channel.segmenter.samples(start, audio_range.end)
        else:
            samples = np.zeros(audio_range.end - start, np.float32)
        session_id, stream, rate, options = self._session_id, self._stream, self._sample_rate, self.options
        index, segment_id, kind = channel.index, audio_range.segment_id, audio_range.kind
        out.append(Infer(Job(job, session_id, stream, index, segment_id, kind, start, samples, rate, options, overlap)))
        return job
