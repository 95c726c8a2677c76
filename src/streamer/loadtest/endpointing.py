"""A model of endpointing, which separates its delay from the server's. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.vad.settings import VadConfig

_WINDOW_MS = 32.0
_CLOSE_S = 1e-3
_DEFAULTS = VadConfig()


@dataclass(frozen=True, slots=True)
class EndpointingModel:
    """Endpointing settings of the server in milliseconds; by default the server's own defaults.

    The redemption time must be longer than the shortest speech, as in any useful configuration.
    """

    redemption_ms: float = _DEFAULTS.redemption_time_ms
    post_pad_ms: float = _DEFAULTS.post_speech_pad_ms
    max_speech_ms: float = _DEFAULTS.max_speech_time_ms

    @property
    def delay_s(self) -> float:
        """Time from the end of an utterance to the end of the first window after the redemption time."""
        windows = int(self.redemption_ms / _WINDOW_MS) + 1
        return (windows * _WINDOW_MS - self.post_pad_ms) / 1e3

    def decision_s(self, start_s: float, end_s: float) -> float | None:
        """Return the seconds of audio that a server needs to detect the end of [start_s, end_s).

        None if the utterance was cut at its maximum length: the time depends on the following audio.
        """
        if end_s - start_s > self.max_speech_ms / 1e3 - _CLOSE_S:
            return None
        return end_s + self.delay_s
