"""Audio in a model's output: it reaches the session as bytes, and audio that is wrong fails its item alone."""

import numpy as np
import pytest

import streamer
from streamer.errors import ErrorCode, ModelLoadError
from streamer.inference.audio_check import MAX_OUTPUT_S
from streamer.inference.model_config import ModelConfig
from streamer.models.contract import AudioOut, Model, StreamingModel
from streamer.models.loading import ModelSpec
from streamer.session.actions import JobFailed, Output
from tests.inference.harness import Outcomes, Recorder, job, running
from tests.inference.models import Scripted

RATE = 16_000


def tone(n=160, channels=None):
    samples = np.linspace(-0.5, 0.5, n, dtype=np.float32)
    return samples if channels is None else np.stack([samples * (k + 1) / channels for k in range(channels)])


def nothing(item):
    """Answer the silence of the first call."""


def speaking(*acts, **settings):
    return lambda: Scripted(list(acts), output_sample_rate=RATE, **settings)


def samples_of(outcome, channels=1):
    return np.frombuffer(outcome.audio, np.float32).reshape(channels, -1)


async def only(source, value=0.0):
    got = Outcomes()
    async with running(source) as engine:
        got.submit(engine, job(value=value))
        await got.wait()
    return got.of["s", 0]


async def test_audio_travels_beside_the_json_and_is_described_in_it():
    (answer,) = await only(speaking(lambda item: {"said": "hello", "audio": AudioOut(tone(), RATE)}))
    assert answer.decode() == {"said": "hello", "audio": {"frames": 160, "sample_rate": RATE}}
    assert np.array_equal(samples_of(answer)[0], tone())


async def test_audio_alone_has_no_json():
    (answer,) = await only(speaking(lambda item: AudioOut(tone().astype(np.float64), RATE)))
    assert answer.decode() is None
    assert np.array_equal(samples_of(answer)[0], tone())


async def test_a_generators_audio_leaves_at_once_and_its_last_json_is_the_final():
    def reply(item):
        yield {"said": "hel"}
        yield AudioOut(tone(), RATE)
        yield {"said": "hello", "audio": AudioOut(-tone(), RATE)}
        yield AudioOut(tone(80), RATE)

    *parts, last = await only(speaking(reply))
    assert [len(part.audio) // 4 for part in parts] == [160, 160, 80]
    assert [bytes(part.value) for part in parts] == [b"", b'{"said":"hel"}', b""]
    assert last.decode()["said"] == "hello"
    assert not len(last.audio)


async def test_an_array_of_a_function_that_declares_audio_is_audio():
    @streamer.model(output_sample_rate=RATE)
    def half(samples):
        return samples / 2

    (answer,) = await only(lambda: half, value=0.5)
    assert np.array_equal(samples_of(answer)[0], np.full(160, 0.25, np.float32))


async def test_a_model_that_goes_on_writing_into_its_array_changes_nothing_that_was_sent():
    scratch = tone().copy()

    def reply(item):
        for _ in range(3):
            yield AudioOut(scratch, RATE)
            scratch[:] += 0.25 * bool(item.session_id)

    *parts, _ = await only(speaking(reply))
    assert [float(samples_of(part)[0, 0]) for part in parts] == [-0.5, -0.25, 0.0]


async def test_audio_of_no_length_is_audio_alone_too():
    def reply(item):
        yield AudioOut(tone(0), RATE)
        yield {"said": "hello"}

    *parts, last = await only(speaking(reply))
    assert [bytes(part.value) for part in parts] == [b""]
    assert last.decode() == {"said": "hello"}


@pytest.mark.parametrize(
    ("audio", "words"),
    [
        (AudioOut(np.array([0.0, np.nan], np.float32), RATE), "samples: expected finite numbers, got NaN or infinity"),
        (AudioOut(np.array([np.inf], np.float32), RATE), "expected finite numbers"),
        (AudioOut(tone(), 8_000), "sample_rate: expected 16000 (output_sample_rate), got 8000"),
        (AudioOut(tone(channels=100), RATE), "shape [n] or [channels, n] with 1 channels, got [100, 160]"),
        (AudioOut(np.zeros((1, 2, 3), np.float32), RATE), "shape [n] or [channels, n]"),
        (AudioOut(np.zeros(160, np.int16), RATE), "expected an array of floats, got int16"),
        (AudioOut([0.0, 0.5], RATE), "expected an array of floats, got list"),  # type: ignore[arg-type]
        (AudioOut(np.zeros(round(MAX_OUTPUT_S * RATE) + 1, np.float32), RATE), "at most 600 s for one segment"),
        ([AudioOut(tone(), RATE), AudioOut(tone(), RATE)], "at most one AudioOut, got 2"),
    ],
    ids=["nan", "infinity", "rate", "a_hundred_channels", "axes", "integers", "list", "endless", "two"],
)
async def test_wrong_audio_fails_its_item_and_leaves_its_neighbours(audio, words):
    got, record = Outcomes(), Recorder()
    source = speaking(
        lambda item: AudioOut(tone(), RATE), lambda item: audio, max_batch_wait_ms=1000.0, max_batch_size=2
    )
    async with running(source, observer=record) as engine:
        got.submit(engine, job(0, "good", value=0.0))
        got.submit(engine, job(1, "bad", value=1.0))
        good, bad = await got.wait_all([("good", 0), ("bad", 1)])
    assert record.batches == [(0, [("good", 0), ("bad", 1)])]
    assert np.array_equal(samples_of(good)[0], tone())
    assert bad.code is ErrorCode.MODEL_ERROR
    assert words in bad.message


async def test_a_generator_that_never_ends_its_audio_is_cut_at_the_limit():
    minute = np.zeros(60 * RATE, np.float32)

    def endless(item):
        while True:
            yield AudioOut(minute, RATE)

    *parts, last = await only(speaking(nothing, endless), value=1.0)
    assert len(parts) == 10
    assert isinstance(last, JobFailed)
    assert "at most 600 s for one segment" in last.message


async def test_audio_of_a_model_that_declares_none_is_named():
    (answer,) = await only(lambda: Scripted([nothing, lambda item: AudioOut(tone(), RATE)]), value=1.0)
    assert answer == JobFailed(
        ErrorCode.MODEL_ERROR, "the model answered with audio, but it declares no output_sample_rate"
    )


async def test_an_answer_whose_audio_has_begun_is_not_begun_again_when_its_worker_dies(tmp_path):
    spec = ModelSpec("tests.inference.villains:Talker", {"flag": str(tmp_path / "flag")})
    got, record = Outcomes(), Recorder()
    async with running(spec, observer=record) as engine:
        got.submit(engine, job())
        outcome = await got.wait()
    assert outcome.code is ErrorCode.MODEL_CRASHED
    (part,) = got.of["s", 0][:-1]
    assert np.array_equal(samples_of(part)[0], np.full(160, 0.25, np.float32))


async def test_audio_of_a_worker_process_arrives_as_it_was():
    got = Outcomes()
    async with running(ModelSpec("tests.inference.villains:Echo", {})) as engine:
        got.submit(engine, job(value=0.1))
        answer = await got.wait()
    assert isinstance(answer, Output)
    assert np.array_equal(samples_of(answer, 2), np.stack([np.full(160, 0.1, np.float32)] * 2))


class Late(StreamingModel):
    latency_ms = 20.0
    output_sample_rate = 48_000

    def open(self, info):
        return None

    def step(self, states, batch):
        return [(None, None)] * len(batch)


class Side(Model):
    overlap_ms = 5.0

    def infer(self, batch):
        return [None] * len(batch)


@pytest.mark.parametrize(
    ("model", "attribute", "value"),
    [
        (Side(), "latency_ms", 20.0),
        (Late(), "overlap_ms", 5.0),
        (Late(), "latency_ms", 60_000.0),
        (Late(), "latency_ms", float("nan")),
        (Side(), "output_sample_rate", 1),
        (Side(), "output_sample_rate", True),
        (Side(), "output_channels", 100),
    ],
)
def test_attributes_of_audio_out_of_range_are_named_before_a_worker_starts(model, attribute, value):
    setattr(model, attribute, value)
    with pytest.raises(ModelLoadError, match=f"{attribute}: expected"):
        ModelConfig.of(model)
