"""`streamer vad`: the segments of a file for people, for programs and as a picture; one line where it cannot be."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from streamer.cli import app
from streamer.vad import speech_segments
from tests.vad.speech import RATE, SAMPLE, SHARED, real


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["vad", *map(str, arguments)])


def refusal(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    """Silence on channel 0, the sample on channel 1."""
    path = tmp_path / "stereo.wav"
    sample = real(SAMPLE.name)
    soundfile.write(path, np.stack([np.zeros_like(sample), sample], axis=1), RATE)
    return path


def test_a_table_of_the_segments() -> None:
    done = run(SAMPLE)
    assert done.exit_code == 0
    assert "weather.wav" in done.stdout
    assert "0.17 s" in done.stdout
    assert "5.95 s" in done.stdout
    assert "2 segments, 4.82 s of 6.94 s (69%)" in done.stdout


def test_json_has_one_segment_a_line() -> None:
    done = run(SAMPLE, "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    expected = speech_segments(real(SAMPLE.name), RATE)
    assert [(line["start_sample"], line["end_sample"]) for line in lines] == [(s.start, s.end) for s in expected]
    assert [line["start"] for line in lines] == [s.start / RATE for s in expected]
    assert all(line["channel"] == 0 and 0.5 < line["mean_probability"] < 1 for line in lines)


def test_channels_have_their_own_segments(stereo: Path) -> None:
    lines = [json.loads(line) for line in run(stereo, "--json").stdout.splitlines()]
    assert [line["channel"] for line in lines] == [1, 1]
    assert "2 channels" in run(stereo).stdout


def test_silence_has_no_speech(tmp_path: Path) -> None:
    path = tmp_path / "silence.flac"
    soundfile.write(path, np.zeros(8_000), 8_000)
    assert "no speech" in run(path).stdout
    assert run(path, "--json").stdout == ""


def test_the_rules_can_be_set() -> None:
    done = run(SAMPLE, "--json", "--redemption-time-ms", 2000)
    assert len(done.stdout.splitlines()) == 1
    assert "vad.min_speech_time_ms: expected a number from 0" in refusal(SAMPLE, "--min-speech-time-ms", -1)


def test_a_picture(stereo: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    done = run(stereo, "--plot", target, "--json")
    assert done.exit_code == 0
    assert f"drawn to {target}" in done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert target.read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    assert "No such file or directory" in refusal(SAMPLE, "--plot", tmp_path / "nowhere" / "out.png")
    assert "not supported" in refusal(SAMPLE, "--plot", tmp_path / "out.xyz")


def test_a_picture_without_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "streamer.cli.vad_plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'streamer[plot]'" in refusal(SAMPLE, "--plot", tmp_path / "out.png")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nothing.wav")
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    assert "cannot be read as audio" in refusal(text)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared recordings are not here")
def test_the_awful_file_is_refused() -> None:
    assert "1092676 Hz" in refusal(SHARED / "awful.wav")


@pytest.mark.skipif(not SHARED.exists(), reason="the shared recordings are not here")
def test_real_speech_of_two_channels_at_another_rate() -> None:
    lines = [json.loads(line) for line in run(SHARED / "jfk.flac", "--json").stdout.splitlines()]
    left = [(round(line["start"], 1), round(line["end"], 1)) for line in lines if line["channel"] == 0]
    assert left == [(0.0, 2.2), (2.7, 4.4), (4.8, 11.0)]


def test_detectors_stand_beside_each_other(stereo: Path, tmp_path: Path) -> None:
    lines = [
        json.loads(line)
        for line in run(stereo, "--json", "--detector", "silero", "--detector", "energy").stdout.splitlines()
    ]
    assert {(line["channel"], line["detector"]) for line in lines} == {(1, "silero"), (1, "energy")}
    target = tmp_path / "both.png"
    done = run(stereo, "--detector", "silero", "--detector", "energy", "--plot", target)
    assert done.exit_code == 0
    assert "channel 1, energy" in done.stdout
    assert target.read_bytes().startswith(b"\x89PNG")
    assert "vad.detector: expected one of silero" in refusal(stereo, "--detector", "webrtc")
