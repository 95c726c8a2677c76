"""`streamer evaluate`, whole: recordings, the real engine, a table, JSON and a page."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import as_file

import pytest

from streamer.samples import sample
from tests.cli.serving import environment

pytest.importorskip("jiwer")
pytest.importorskip("whisper_normalizer")

MODEL = """
import streamer

@streamer.model(max_batch_size=4)
def answer(samples):
    return {"text": "The weather today is warm."}
"""


def evaluate(*arguments):
    """The exit code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "streamer", "evaluate", *map(str, arguments)],
        env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "answers.py").write_text(MODEL)
    with as_file(sample()) as path:
        (tmp_path / "weather.wav").write_bytes(path.read_bytes())
    (tmp_path / "list.tsv").write_text("weather.wav\tThe weather today is cold. The weather today is cold.\n")
    return tmp_path / "list.tsv"


def test_errors_cost_and_latency_come_as_a_table_json_and_a_page(manifest, tmp_path):
    model = f"{tmp_path / 'answers.py'}:answer"
    code, out, err = evaluate(manifest, "--model", model, "--json", tmp_path / "o.json", "--page", tmp_path / "o.html")
    assert code == 0, err
    assert "20.0 %" in out
    found = json.loads((tmp_path / "o.json").read_bytes())
    assert found["word_error_rate"] == 0.2
    assert found["words"] == {"substitutions": 2, "deletions": 0, "insertions": 0, "total": 10}
    assert found["final"]["count"] == found["first_interim"]["count"] == 2
    assert found["real_time_factor"] > 0
    assert "<del>cold</del> <ins>warm</ins>" in (tmp_path / "o.html").read_text()


def test_a_recording_that_cannot_be_read_is_named_and_the_others_count(manifest, tmp_path):
    (tmp_path / "bad.wav").write_text("no audio")
    manifest.write_text(manifest.read_text() + "bad.wav\twords\n")
    model = f"{tmp_path / 'answers.py'}:answer"
    code, out, err = evaluate(manifest, "--model", model, "--live", "0")
    assert code == 1
    assert "20.0 %" in out
    assert err.startswith(f"error: {tmp_path / 'bad.wav'}: ")


def test_what_cannot_begin_is_one_line(tmp_path):
    code, out, err = evaluate(tmp_path / "nowhere.tsv")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "cannot be read" in err
