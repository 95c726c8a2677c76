"""RNNoise takes noise out of real speech, where its input was, whatever the pieces."""

import io
from importlib.util import find_spec

import numpy as np
import pytest
import soundfile

from streamer.audio.resample import Resampler
from streamer.errors import ModelLoadError
from streamer.models import rnnoise
from streamer.models.contract import AudioSegment, StreamInfo
from streamer.models.loading import load_model
from streamer.samples import sample

RATE = 48_000
LATE = 1_440


@pytest.fixture(scope="module")
def model():
    if find_spec("pyrnnoise") is None:
        pytest.skip("pyrnnoise is not installed")
    model = load_model("rnnoise")
    model.load()
    return model


def speech():
    samples, rate = soundfile.read(io.BytesIO(sample().read_bytes()), dtype="float32")
    resampler = Resampler(rate, RATE)
    return np.concatenate((resampler.push(samples[None]), resampler.flush()), axis=1)[0]


def denoised(model, x, sizes):
    state = model.open(StreamInfo("s", 0, RATE, {}))
    x = np.append(x, np.zeros(LATE, np.float32))
    pieces, at, turn = [], 0, 0
    while at < len(x):
        size = sizes[turn % len(sizes)]
        [(state, audio)] = model.step([state], [AudioSegment(x[at : at + size], RATE, at, True, "s", 0, {})])
        assert len(audio.samples) == len(x[at : at + size])
        pieces.append(audio.samples)
        at, turn = at + size, turn + 1
    model.close(state)
    model.close(state)
    return np.concatenate(pieces)[LATE:]


def si_sdr(reference, estimate):
    scale = np.dot(estimate, reference) / np.dot(reference, reference)
    noise = estimate - scale * reference
    return 10 * np.log10(np.dot(scale * reference, scale * reference) / np.dot(noise, noise))


def test_noise_is_less_and_speech_where_it_was(model):
    clean = speech()
    noise = np.random.default_rng(1).normal(0, 1, len(clean)).astype(np.float32)
    noisy = clean + noise * np.sqrt(np.mean(clean**2) / np.mean(noise**2) / 10**0.5)
    better = denoised(model, noisy, [960])
    assert si_sdr(clean, better) > si_sdr(clean, noisy) + 5
    shifts = [np.dot(clean[2_000:-2_000], better[2_000 + k : len(better) - 2_000 + k]) for k in range(-500, 501, 20)]
    assert abs(int(np.argmax(shifts)) - 25) <= 1


def test_the_pieces_change_nothing(model):
    x = speech()[:96_001]
    whole = denoised(model, x, [len(x) + LATE])
    assert np.array_equal(whole, denoised(model, x, [1, 479, 480, 481, 7_777]))


def test_without_its_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(rnnoise.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelLoadError, match=r"pip install 'streamer-audio\[rnnoise\]'"):
        load_model("rnnoise").load()
