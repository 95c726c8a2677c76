"""What a client hears of the audio out of one stream, checked as it comes."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamer.session.events import Mode

RATE = 16_000


class Hearing:
    """The audio of a stream whose model echoes on `simple` and says anything on `segmented`."""

    def __init__(self, mode: Mode, channels: int) -> None:
        self._mode = mode
        self._channels = channels
        self.sent: list[bytes] = []
        self._audio: list[bytes] = []
        self._cleared = 0
        self._silent: list[tuple[int, int, int]] = []
        self._current: tuple[int, int] | None = None
        self._open: dict[tuple[int, int], int] = {}
        self._last: dict[int, int] = {}

    def take_audio(self, data: bytes) -> None:
        assert data
        self._audio.append(data)
        if self._mode is Mode.SEGMENTED:
            assert self._current in self._open, "audio belongs to an answer that was announced"
            self._open[self._current] += len(data) // 2

    def take(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "audio_started":
                key = self._current = (event["channel"], event["segment_id"])
                assert not any(channel == key[0] for channel, _ in self._open), "one answer per channel at a time"
                assert self._last.get(key[0], 0) < key[1], "answers come in stream order"
                self._open[key] = 0
                self._last[key[0]] = key[1]
            case "audio_resumed":
                self._current = (event["channel"], event["segment_id"])
                assert self._current in self._open
            case "audio_ended":
                frames = self._open.pop((event["channel"], event["segment_id"]))
                assert frames == event["frames"], "an answer has the frames that its end says"
            case "cleared":
                self._cleared += event["frames"]
            case "error" if "end_time" in event and not event["fatal"]:
                span = (round(event["start_time"] * RATE), round(event["end_time"] * RATE))
                self._silent.append((event["channel"], *span))
            case "finished":
                self._finish(event)

    def _finish(self, event: dict[str, Any]) -> None:
        assert not self._open, "every answer has ended"
        if self._mode is Mode.SEGMENTED:
            return
        heard = np.frombuffer(b"".join(self._audio), "<i2").reshape(-1, self._channels)
        assert len(heard) + self._cleared == event["received"], "as many frames out as in"
        if self._cleared:
            return
        data = b"".join(self.sent)[: event["received"] * 2 * self._channels]
        expected = np.frombuffer(data, "<i2").reshape(-1, self._channels).copy()
        for channel, start, end in self._silent:
            expected[start:end, channel] = 0
        assert np.array_equal(heard, expected), "each sample where its input was, silence for what failed"
