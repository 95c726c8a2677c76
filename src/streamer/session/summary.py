"""Totals of a session, for its log record."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.errors import ErrorCode
from streamer.session.stream import Stream


@dataclass(frozen=True, slots=True)
class Summary:
    """Totals of a session: counts, and seconds of audio over all its streams."""

    streams: int = 0
    received_s: float = 0.0
    answered_s: float = 0.0
    segments: int = 0
    interims: int = 0
    interims_dropped: int = 0
    failed: int = 0
    bad_packets: int = 0
    """Of compressed audio, those that could not be decoded."""
    code: ErrorCode | None = None
    """Error of the close; None for a normal end."""

    def plus(self, stream: Stream) -> Summary:
        """Return these totals plus those of another stream."""
        counters = stream.counters
        return Summary(
            streams=self.streams + 1,
            received_s=self.received_s + stream.received_s,
            answered_s=self.answered_s + counters.answered_samples / stream.sample_rate,
            segments=self.segments + counters.segments,
            interims=self.interims + counters.interims,
            interims_dropped=self.interims_dropped + counters.interims_dropped,
            failed=self.failed + counters.failed,
        )
