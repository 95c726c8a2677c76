"""Which audio makes a server end an utterance: what splits the endpointing's share from the server's. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.vad.settings import VadConfig

_WINDOW_MS = 32.0
_CLOSE_S = 1e-3
_DEFAULTS = VadConfig()


@dataclass(frozen=True, slots=True)
class Endpointing:
    """What the server does, as far as it matters here; milliseconds, the server's own defaults.

    The redemption time is longer than the least speech, as it is wherever endpointing is of use.
    """

    redemption_ms: float = _DEFAULTS.redemption_time_ms
    post_pad_ms: float = _DEFAULTS.post_speech_pad_ms
    max_speech_ms: float = _DEFAULTS.max_speech_time_ms

    @property
    def share_s(self) -> float:
        """From an utterance's end to the end of the window that decided it: the first one past the redemption time."""
        windows = int(self.redemption_ms / _WINDOW_MS) + 1
        return (windows * _WINDOW_MS - self.post_pad_ms) / 1e3

    def decided_s(self, start_s: float, end_s: float) -> float | None:
        """How much of the stream a server must have heard to know that [start_s, end_s) is over.

        None where the utterance was cut at its greatest length: how soon depends on what was said after it.
        """
        if end_s - start_s > self.max_speech_ms / 1e3 - _CLOSE_S:
            return None
        return end_s + self.share_s
