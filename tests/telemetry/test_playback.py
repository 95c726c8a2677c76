"""Delays and gaps of audio out, from a session's events."""

from __future__ import annotations

from streamer.audio.format import Encoding
from streamer.session.events import AudioChunk, AudioOutInfo, AudioStarted, Mode, Started
from streamer.telemetry.playback import Playback, PlayedChunk


class View:
    """Audio that arrived in real time, from second 100 on."""

    def arrival(self, position: int) -> float | None:
        return 100.0 + position / 16_000


def playback() -> Playback:
    info = AudioOutInfo(Encoding.PCM_S16LE, 8_000, 1, 0.0)
    return Playback(Started("s", Mode.SIMPLE, "m", 16_000, {}, None, info), View())  # type: ignore[arg-type]


def chunk(position: int, frames: int = 160, segment_id: int = 0) -> AudioChunk:
    return AudioChunk(0, segment_id, position, frames, bytes(2 * frames))


def test_on_simple_the_delay_is_from_the_input_and_a_gap_is_later_than_the_buffer() -> None:
    player = playback()
    assert rounded(player.on_written(chunk(0), 100.03)) == PlayedChunk(0.02, 0.03, 0.0)
    assert rounded(player.on_written(chunk(320), 100.07)) == PlayedChunk(0.02, 0.05, 0.0)
    assert rounded(player.on_written(chunk(640), 100.15)) == PlayedChunk(0.02, 0.11, 0.04)


def test_a_client_that_pauses_its_audio_makes_no_gap() -> None:
    player = playback()
    player.on_written(chunk(0), 100.03)
    assert rounded(player.on_written(chunk(160_000), 110.03)).gap_s == 0.0


def test_on_segmented_the_delay_is_from_the_end_of_the_segment_once_per_answer() -> None:
    player = playback()
    player.on_segment_ended(0, 1, 102.0)
    player.on_started(AudioStarted(0, 1, 16_000))
    assert rounded(player.on_written(chunk(16_000, 800, 1), 102.5)) == PlayedChunk(0.1, 0.5, 0.0)
    assert rounded(player.on_written(chunk(17_600, 800, 1), 102.5)) == PlayedChunk(0.1, None, 0.0)
    assert rounded(player.on_written(chunk(19_200, 800, 1), 102.8)) == PlayedChunk(0.1, None, 0.06)


def rounded(heard: PlayedChunk) -> PlayedChunk:
    delay_s = None if heard.delay_s is None else round(heard.delay_s, 6)
    return PlayedChunk(round(heard.seconds, 6), delay_s, round(heard.gap_s, 6))
