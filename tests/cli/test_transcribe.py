"""`streamer transcribe`: recordings through the real engine without a socket."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from importlib.resources import as_file

import numpy as np
import pytest
import soundfile

from streamer.samples import sample
from tests.cli.serving import environment

MODEL = """
import streamer

@streamer.model(max_batch_size=4)
def answer(samples):
    return {"text": f" {len(samples) > 16_000} "}
"""


def transcribe(*arguments, cwd=None):
    """The exit code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "streamer", "transcribe", *map(str, arguments)],
        env=environment(), capture_output=True, text=True, timeout=120, check=False, cwd=cwd,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def recording():
    with as_file(sample()) as path:
        yield path


@pytest.fixture
def model(tmp_path):
    (tmp_path / "answers.py").write_text(MODEL)
    return f"{tmp_path / 'answers.py'}:answer"


@pytest.mark.skipif(
    importlib.util.find_spec("moonshine_voice") is None,
    reason="the weights are not installed: pip install moonshine-voice==0.0.73",
)
def test_a_recording_becomes_captions_in_a_file_of_its_own(recording, tmp_path):
    code, out, err = transcribe(recording, "-f", "srt", "-o", tmp_path / "captions")
    assert (code, out) == (0, ""), err
    assert "x real time" in err
    lines = (tmp_path / "captions" / "weather.srt").read_text().splitlines()
    assert "The weather today is cold and dark." in lines
    assert "Please turn on the light in the kitchen." in lines


def test_several_files_are_told_in_their_order_and_a_bad_one_does_not_stop_the_others(recording, model, tmp_path):
    stereo = tmp_path / "stereo.flac"
    samples, rate = soundfile.read(recording)
    soundfile.write(stereo, np.stack([samples, samples], 1), rate)
    (tmp_path / "bad.wav").write_text("no audio")
    files = [recording, tmp_path / "bad.wav", stereo, tmp_path / "nowhere.wav"]
    code, out, err = transcribe(*files, "--model", model, "--format", "json", "--jobs", "2")
    assert code == 1
    assert [line.split(":")[1].strip() for line in err.splitlines() if line.startswith("error")] == [
        str(tmp_path / "bad.wav"),
        str(tmp_path / "nowhere.wav"),
    ]
    assert "2 of 4 files" in err
    first, second = (json.loads(text + "\n}") for text in out.split("\n}")[:2])
    assert first["text"].split() == ["True", "True"] == second["text"].split()
    assert all(segment["words"] for segment in first["segments"])


def test_a_model_that_answers_no_transcripts_is_named(recording):
    code, _, err = transcribe(recording, "--model", "stub")
    assert code == 1
    assert "the model answers no transcripts" in err


def test_what_cannot_begin_is_one_line(recording):
    for arguments, words in (
        (("--model", "no.such:model"), "no module named 'no'"),
        (("--options", "[1]"), "--options: expected a JSON object, got '[1]'"),
        (("--set", "vad.redemption_time_ms=-1"), "vad.redemption_time_ms"),
    ):
        code, out, err = transcribe(recording, *arguments)
        assert (code, out) == (2, "")
        [line] = err.splitlines()
        assert words in line
