"""Audio out of one session as its listener hears it: delays, gaps, seconds."""

from __future__ import annotations

from typing import NamedTuple

from streamer.audio.playout import PlayoutBuffer
from streamer.session.events import AudioChunk, AudioStarted, Started
from streamer.telemetry.observer import SessionView


class PlayedChunk(NamedTuple):
    """One chunk that was written. `delay_s`: of the first audio since its input; None if it is not known.

    On `segmented`, only the first chunk of an answer has a delay: since the end of the segment.
    """

    seconds: float
    delay_s: float | None
    gap_s: float


class Playback:
    """Follows the audio out of a stream."""

    def __init__(self, event: Started, view: SessionView) -> None:
        """Follow a stream. `event`: its first one, which has the format of the audio out."""
        assert event.audio_out is not None
        self._rate = event.audio_out.sample_rate
        self._view = view
        self._playouts: dict[tuple[int, int], tuple[PlayoutBuffer, int]] = {}
        self._ends: dict[tuple[int, int], float] = {}

    def on_segment_ended(self, channel: int, segment_id: int, arrived: float) -> None:
        """Note when the last audio of a segment arrived."""
        self._ends[channel, segment_id] = arrived

    def on_written(self, chunk: AudioChunk, now: float) -> PlayedChunk:
        """Take a chunk that was given to the transport."""
        answer, seconds = (chunk.channel, chunk.segment_id), chunk.frames / self._rate
        listener, frames = self._playouts.setdefault(answer, (PlayoutBuffer(), 0))
        if chunk.segment_id:
            gap_s = listener.receive(frames / self._rate, now)
            self._playouts[answer] = (listener, frames + chunk.frames)
            ended_at = self._ends.pop(answer, None)
            return PlayedChunk(seconds, None if ended_at is None else now - ended_at, gap_s)
        arrived = self._view.arrival(chunk.position)
        if arrived is None:
            return PlayedChunk(seconds, None, 0.0)
        return PlayedChunk(seconds, now - arrived, listener.receive(arrived, now))

    def on_started(self, event: AudioStarted) -> None:
        """Note the begin of an answer: those before it on this channel have ended."""
        for answer in [answer for answer in self._playouts if answer[0] == event.channel]:
            del self._playouts[answer]
        for answer in [answer for answer in self._ends if answer[0] == event.channel and answer[1] < event.segment_id]:
            del self._ends[answer]

    def seconds(self, frames: int) -> float:
        """Return the duration of frames of audio out."""
        return frames / self._rate
