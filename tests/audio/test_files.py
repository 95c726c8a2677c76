"""Audio files are read whatever their encoding, and refused in one line that names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamer.audio.errors import UnreadableFile
from streamer.audio.files import read_audio
from streamer.errors import ErrorCode

SHARED = Path(__file__).resolve().parents[3] / "shared" / "audio"
TONE = (0.5 * np.sin(np.arange(2000) / 7)).astype(np.float32)


@pytest.mark.parametrize(
    ("extension", "subtype", "error"),
    [
        ("wav", "PCM_U8", 1e-2),
        ("wav", "PCM_16", 1e-4),
        ("wav", "PCM_24", 1e-6),
        ("wav", "PCM_32", 1e-7),
        ("wav", "FLOAT", 0),
        ("wav", "DOUBLE", 0),
        ("wav", "ULAW", 2e-2),
        ("wav", "ALAW", 2e-2),
        ("flac", "PCM_24", 1e-6),
        ("aiff", "PCM_16", 1e-4),
    ],
)
def test_any_sample_format_is_read(tmp_path: Path, extension: str, subtype: str, error: float) -> None:
    path = tmp_path / f"tone.{extension}"
    soundfile.write(path, np.stack([TONE, -TONE], axis=1), 11_025, subtype)
    file = read_audio(path)
    assert (file.sample_rate, file.channels, file.subtype) == (11_025, 2, subtype)
    assert file.samples.dtype == np.float32
    assert file.seconds == pytest.approx(2000 / 11_025)
    assert np.abs(file.samples - [TONE, -TONE]).max() <= error


def test_samples_that_are_not_finite_are_silence(tmp_path: Path) -> None:
    path = tmp_path / "nan.wav"
    soundfile.write(path, np.array([0.1, np.nan, np.inf, -np.inf, 0.2], np.float32), 16_000, "FLOAT")
    assert read_audio(path).samples.tolist() == [[np.float32(0.1), 0, 0, 0, np.float32(0.2)]]


def message(path: Path) -> str:
    with pytest.raises(UnreadableFile) as caught:
        read_audio(path)
    assert caught.value.code is ErrorCode.INVALID_AUDIO
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith(str(path))
    return caught.value.message.removeprefix(str(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert message(tmp_path / "nothing.wav") == ": No such file or directory"


def test_a_folder(tmp_path: Path) -> None:
    assert message(tmp_path) == ": Is a directory"


def test_a_file_that_is_not_audio(tmp_path: Path) -> None:
    path = tmp_path / "text.wav"
    path.write_text("this is no audio")
    assert message(path) == ": cannot be read as audio (Format not recognised)"


def test_a_header_that_lies_about_the_rate(tmp_path: Path) -> None:
    path = tmp_path / "fast.wav"
    soundfile.write(path, TONE, 16_000)
    data = bytearray(path.read_bytes())
    data[24:28] = (1_092_676).to_bytes(4, "little")
    path.write_bytes(data)
    assert message(path) == ": expected a sample rate of 4000 to 192000 Hz, got 1092676 Hz"


def test_a_recording_without_samples(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros((0, 1), np.float32), 16_000)
    assert message(path) == ": the file contains no audio"


def test_a_file_cut_off_gives_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    soundfile.write(path, TONE, 16_000)
    path.write_bytes(path.read_bytes()[:1044])
    assert read_audio(path).samples.shape == (1, 500)


@pytest.mark.skipif(not (SHARED / "awful.wav").exists(), reason="the shared recordings are not here")
def test_the_awful_file_is_refused() -> None:
    assert "Hz" in message(SHARED / "awful.wav")
