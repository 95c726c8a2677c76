"""Audio out of one stream of the load: when it arrived, and what a listener missed."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from streamer.audio.format import AudioFormat
from streamer.audio.playout import PlayoutBuffer
from streamer.client.events import AudioChunk


@dataclass(slots=True)
class AudioOutTimes:
    """Audio out of one stream. `delays` and `gaps`: pairs (time of the audio as time.monotonic(), seconds).

    A delay counts from the sending of the audio that the frame answers; on `segmented` there are only gaps.
    """

    delays: array[float] = field(default_factory=lambda: array("d"))
    gaps: array[float] = field(default_factory=lambda: array("d"))
    frames: int = 0


class AudioOutRecorder:
    """Listens to the audio out of one stream, which has the encoding and the rate of its input."""

    def __init__(self, format: AudioFormat, sent_at: Callable[[float], float | None]) -> None:
        """Create a listener. `sent_at`: returns when the audio up to a position in seconds was sent."""
        self.times = AudioOutTimes()
        self._format = format
        self._sent_at = sent_at
        self._answer = (0, 0)
        self._received = 0
        self._playout = PlayoutBuffer()

    def on_chunk(self, chunk: AudioChunk, now: float) -> None:
        """Take a message of audio."""
        answer, rate = (chunk.channel, chunk.segment_id), self._format.sample_rate
        if answer != self._answer:
            self._answer, self._received, self._playout = answer, 0, PlayoutBuffer()
        frames = len(chunk.data) // self._format.frame_bytes
        if chunk.segment_id:
            gap_s = self._playout.receive(self._received / rate, now)
        else:
            sent = self._sent_at((self._received + 1) / rate)
            gap_s = 0.0
            if sent is not None:
                self.times.delays.extend((sent, now - sent))
                gap_s = self._playout.receive(sent, now)
        if gap_s > 0:
            self.times.gaps.extend((now, gap_s))
        self._received += frames
        self.times.frames += frames
