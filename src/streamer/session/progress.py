"""Reports of the progress of speech detection: the clock of the audio, for streams that request it."""

from __future__ import annotations

from collections.abc import Sequence

from streamer.session.channel import Channel
from streamer.session.events import Progress
from streamer.session.messages import Start


class ProgressReports:
    """Decides when the next `Progress` of a stream is due."""

    def __init__(self, step: int) -> None:
        """Create reports, at most one in `step` samples at the model's rate."""
        self._step = step
        self._reported = 0

    @classmethod
    def of(cls, start: Start, sample_rate: int) -> ProgressReports | None:
        """Return the reports that a start requests, or None. `sample_rate`: of the model, in Hz."""
        return None if start.progress_ms is None else cls(max(1, start.progress_ms * sample_rate // 1000))

    def due(self, channels: Sequence[Channel]) -> Sequence[Progress]:
        """Return the report that is due, if any."""
        position = min(channel.segmenter.position for channel in channels)
        if position - self._reported < self._step:
            return ()
        self._reported = position
        return (Progress(position),)
