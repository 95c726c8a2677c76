"""Every example loads by its path, answers through the engine, and is served to a client."""

import asyncio
import io
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import numpy as np
import pytest
import soundfile
from msgspec.structs import replace

from streamer.inference.engine import Engine
from streamer.models.loading import ModelSpec
from streamer.samples import sample
from streamer.session.actions import JobKind
from tests.cli.serving import environment, served
from tests.inference.harness import Outcomes, job

EXAMPLES = Path(__file__).parents[2] / "examples"

NEEDS = {
    "recognition.py:Recogniser": ("pocketsphinx",),
    "batched_onnx.py:Classifier": ("onnx", "onnxruntime"),
    "wake_word.py:WakeWord": ("pymicro_wakeword",),
}


def example(name):
    """The spec of an example; skips where a package that it shows is not installed."""
    for package in NEEDS.get(name, ()):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    return ModelSpec(f"{EXAMPLES}/{name}")


def speech():
    """float32 [n] at 16 kHz: "The weather today is cold and dark." from 0.17 s."""
    samples, rate = soundfile.read(io.BytesIO(sample().read_bytes()), dtype="float32")
    assert rate == 16_000
    return samples


async def answers(spec, pieces, *, kind=JobKind.PIECE, sessions=1):
    """Outputs for `pieces`, sent in order by so many sessions at once: [session][piece]."""
    engine, got = Engine(spec), Outcomes()
    await engine.start()
    try:
        for number, piece in enumerate(pieces):
            for session in range(sessions):
                new = job(number, f"s{session}", kind=kind, start=number * 16_000, n=0)
                got.submit(engine, replace(new, samples=np.asarray(piece, np.float32)))
        keys = [(f"s{session}", number) for session in range(sessions) for number in range(len(pieces))]
        values = [outcome.decode() for outcome in await got.wait_all(keys)]
    finally:
        await engine.stop(5)
    return [values[at : at + len(pieces)] for at in range(0, len(values), len(pieces))]


async def test_loudness_of_silence_and_of_a_full_tone():
    tone = np.sin(np.arange(16_000) * 0.1)
    [[silent, loud]] = await answers(example("loudness.py:loudness"), [np.zeros(16_000), tone])
    assert silent == {"rms_db": -100.0, "peak_db": -100.0}
    assert loud["rms_db"] == pytest.approx(-3.0, abs=0.1)
    assert loud["peak_db"] == pytest.approx(0.0, abs=0.1)


async def test_noise_floor_is_followed_from_piece_to_piece():
    noise = np.random.default_rng(0).normal(0, 0.001, 16_000)
    [[quiet, loud, again]] = await answers(example("noise_follower.py:NoiseFollower"), [noise, noise * 300, noise])
    assert quiet["noise_db"] == pytest.approx(-60, abs=2)
    assert loud["level_db"] == pytest.approx(-10.5, abs=1)
    assert quiet["noise_db"] < loud["noise_db"] < quiet["noise_db"] + 4
    assert again["noise_db"] == pytest.approx(quiet["noise_db"], abs=1)


async def test_noise_follower_takes_pieces_of_any_length():
    [[one, empty]] = await answers(example("noise_follower.py:NoiseFollower"), [[0.1], np.full(321, 0.1)])
    assert one["level_db"] == empty["level_db"] == -20.0


async def test_recogniser_hears_the_weather():
    spec = example("recognition.py:Recogniser")
    [[heard]] = await answers(spec, [speech()[:41_600]], kind=JobKind.FINAL)
    assert heard == {"text": "the weather today is cold and dark"}


async def test_batch_gives_each_segment_the_answer_it_would_get_alone():
    spec = example("batched_onnx.py:Classifier")
    pieces = [speech()[:n] for n in (10, 4_000, 16_000)]
    [alone] = await answers(spec, pieces)
    together = await answers(spec, pieces, sessions=4)
    assert together == [alone] * 4
    assert alone[0].keys() == {"class", "probability"}
    assert all(0.25 <= answer["probability"] <= 1 for answer in alone)


@pytest.mark.parametrize(
    ("name", "mode", "key"),
    [
        ("loudness.py:loudness", "simple", "rms_db"),
        ("noise_follower.py:NoiseFollower", "simple", "noise_db"),
        ("recognition.py:Recogniser", "segmented", "text"),
        ("batched_onnx.py:Classifier", "segmented", "class"),
    ],
)
async def test_example_is_served_to_a_client(name, mode, key, tmp_path):
    spec = example(name)
    recording = tmp_path / "weather.wav"
    recording.write_bytes(sample().read_bytes())
    with served(spec.spec) as server:
        client = [sys.executable, "-m", "streamer", "client", "--json", "-i", recording]
        client += ["-a", f"{server.websocket_url}/api/v2/{mode}", "--chunk-size", "3200"]
        done = await asyncio.to_thread(
            subprocess.run, client, env=environment(), capture_output=True, text=True, timeout=50, check=False
        )
    assert done.returncode == 0, done.stderr
    finals = [event for line in done.stdout.splitlines() if (event := json.loads(line))["type"] == "segment"]
    assert finals
    assert all(key in event["output"] for event in finals)
    if name.startswith("recognition"):
        assert [event["output"]["text"] for event in finals] == [
            "the weather today is cold and dark",
            "please turn on the light in the kitchen",
        ]


def called(path):
    """float32 [n] at 16 kHz: "okay Nabu", the weather, "okay Nabu", with two seconds of silence around each."""
    if which("flite") is None:
        pytest.skip("flite is not installed: it says the wake word")
    subprocess.run(["flite", "-voice", "slt", "-t", "okay nabu", "-o", str(path)], check=True)
    word, rate = soundfile.read(path, dtype="float32")
    assert rate == 16_000
    pause = np.zeros(2 * 16_000, np.float32)
    return np.concatenate([pause, word, pause, speech(), pause, word, pause])


async def test_a_wake_word_is_heard_once_each_time_it_is_said_however_the_stream_is_cut(tmp_path):
    spec = example("wake_word.py:WakeWord")
    samples = called(tmp_path / "word.wav")
    heard = {}
    for size in (1_000, 1_600, 7_001):
        pieces = np.split(samples, range(size, len(samples), size))
        [outputs] = await answers(spec, pieces)
        heard[size] = [(output["word"], output["time"]) for output in outputs if output["heard"]]
    assert heard[1_000] == heard[1_600] == heard[7_001]
    (word, first), (_, second) = heard[1_000]
    assert word == "Okay Nabu"
    assert 2.3 < first < 3.6
    assert second > 9
