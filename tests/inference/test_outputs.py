"""What a model answers or fails with, and what becomes of it: JSON, partial outputs, each failure its item's alone."""

import asyncio
from typing import Any

import numpy as np
import pytest

from streamer.errors import ErrorCode, ModelFailed
from streamer.inference.observer import CallOutcome
from streamer.inference.outputs import MAX_DEPTH
from streamer.inference.settings import EngineSettings
from streamer.models.contract import AudioOut, Model, StreamingModel
from streamer.session.actions import JobFailed, Output
from streamer.transcripts.transcript import Transcript, Word
from tests.inference.harness import Outcomes, Recorder, job, running
from tests.inference.models import Scripted
from tests.raw import read


async def test_numpy_outputs_become_json():
    value = {"a": np.float32(0.5), "b": np.arange(3), "c": np.bool_(True), "d": float("nan")}
    got = Outcomes()
    async with running(lambda: Scripted([lambda item: value])) as engine:
        got.submit(engine, job())
        assert await got.wait() == Output.of({"a": 0.5, "b": [0, 1, 2], "c": True, "d": None})


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (object(), "the model's output is not JSON: a value of type object"),
        ("x" * 2_000_000, "the model's output has 2000002 bytes, more than 1000000"),
        ({(1, 2): 3}, "the model's output is not JSON"),
    ],
)
async def test_output_that_is_not_json_is_named(output, words):
    got = Outcomes()
    async with running(lambda: Scripted([lambda item: output if item.session_id else 0])) as engine:
        got.submit(engine, job())
        outcome = await got.wait()
    assert outcome.code is ErrorCode.MODEL_ERROR
    assert words in outcome.message


async def test_error_of_one_item_leaves_its_neighbours_and_its_text_stays_in_the_log(caplog):
    def bad(item):
        return ValueError("secret path /home/me")

    model = Scripted(
        [lambda item: 1, bad, lambda item: ModelFailed("too noisy")], max_batch_wait_ms=1000.0, max_batch_size=3
    )
    got, record = Outcomes(), Recorder()
    async with running(lambda: model, observer=record) as engine:
        for n in range(3):
            got.submit(engine, job(n, f"s{n}", value=float(n)))
        outcomes = await got.wait_all([(f"s{n}", n) for n in range(3)])
    assert record.batches == [(0, [("s0", 0), ("s1", 1), ("s2", 2)])]
    assert outcomes == [
        Output.of(1),
        JobFailed(ErrorCode.MODEL_ERROR, "the model failed on this segment"),
        JobFailed(ErrorCode.MODEL_ERROR, "too noisy"),
    ]
    assert "secret path" in caplog.text


async def test_uncaught_error_in_a_batch_is_tried_item_by_item():
    def explode(item):
        raise RuntimeError("boom")

    got, record = Outcomes(), Recorder()
    model = Scripted([lambda item: 1, explode], max_batch_wait_ms=1000.0, max_batch_size=2)
    async with running(lambda: model, observer=record) as engine:
        got.submit(engine, job(0, "good", value=0.0))
        got.submit(engine, job(1, "evil", value=1.0))
        assert await got.wait_all([("good", 0), ("evil", 1)]) == [
            Output.of(1),
            JobFailed(ErrorCode.MODEL_ERROR, "Internal server error"),
        ]
    assert [ended for _, _, ended in record.finished] == [CallOutcome.RAISED, CallOutcome.ANSWERED, CallOutcome.RAISED]


@pytest.mark.parametrize("output", [{"not": "a list"}, "text", 5, [1, 2]])
async def test_wrong_shape_of_outputs_is_the_models_error(output, caplog):
    class Wrong(Model):
        def infer(self, batch):
            return [0] if not batch[0].session_id else output

    got = Outcomes()
    async with running(Wrong) as engine:
        got.submit(engine, job())
        assert (await got.wait()).message == "Internal server error"
    assert "infer()" in caplog.text


async def test_generator_becomes_partials_and_a_final():
    def words(item):
        yield "a"
        yield "a b"
        yield "a b c"

    async def later(item):
        for text in ("x", "x y"):
            await asyncio.sleep(0)
            yield text

    def fails(item):
        yield "half"
        yield "more"
        raise ValueError

    got = Outcomes()
    model = Scripted([words, later, fails, lambda item: iter(())], max_batch_wait_ms=1000.0, max_batch_size=4)
    async with running(lambda: model) as engine:
        for n in range(4):
            got.submit(engine, job(n, f"s{n}", value=float(n)))
        await got.wait_all([(f"s{n}", n) for n in range(4)])
    assert got.of["s0", 0] == [Output.of("a", True), Output.of("a b", True), Output.of("a b c")]
    assert got.of["s1", 1] == [Output.of("x", True), Output.of("x y")]
    assert got.of["s2", 2] == [
        Output.of("half", True),
        JobFailed(ErrorCode.MODEL_ERROR, "the model failed on this segment"),
    ]
    assert got.of["s3", 3] == [Output.of(None)]


async def test_generator_without_end_is_bounded():
    def endless(item):
        while item.session_id:
            yield 0

    got = Outcomes()
    async with running(lambda: Scripted([endless]), EngineSettings(max_partials=5)) as engine:
        got.submit(engine, job())
        assert (await got.wait()).message == "the model yielded more than 5 outputs for one segment"
    assert len(got.of["s", 0]) == 6


@pytest.mark.parametrize("fits", [True, False])
async def test_depth_of_an_output_is_bounded(fits: bool) -> None:
    """Decoders give up at about a thousand levels. Brackets in a text are not levels."""
    output: Any = "[{" * MAX_DEPTH
    for _ in range(MAX_DEPTH if fits else MAX_DEPTH + 1):
        output = [output]
    got = Outcomes()
    async with running(lambda: Scripted([lambda item: output if item.session_id else 0])) as engine:
        got.submit(engine, job())
        outcome = await got.wait()
    if fits:
        assert outcome == Output.of(output)
    else:
        assert isinstance(outcome, JobFailed)
        assert outcome.message == f"the model's output has more than {MAX_DEPTH} levels of nesting"


async def test_words_of_a_transcript_count_from_the_streams_start():
    said = Transcript("hi you", [Word("hi", 0.1, 0.25), Word("you", 0.3, 0.5)])
    got = Outcomes()
    async with running(lambda: Scripted([lambda item: said, lambda item: iter([said, said])])) as engine:
        for n in range(2):
            got.submit(engine, job(n, start=24_000, value=float(n)))
        await got.wait_all([("s", 0), ("s", 1)])
    outcomes = [*got.of["s", 0], *got.of["s", 1]]
    assert [outcome.partial for outcome in outcomes] == [False, True, False]
    for outcome in outcomes:
        assert [word["start_time"] for word in read(outcome.value)["words"]] == [1.6, 1.8]


class Speaker(Scripted):
    """Answers with audio too."""

    output_sample_rate = 16_000


async def test_words_between_audio_count_from_the_streams_start():
    said, sound = Transcript("hi", [Word("hi", 0.1, 0.25)]), AudioOut(np.zeros(160, np.float32), 16_000)
    got = Outcomes()
    async with running(lambda: Speaker([lambda item: iter([said, sound, said])])) as engine:
        got.submit(engine, job(start=24_000))
        await got.wait()
    told = [read(outcome.value) for outcome in got.of["s", 0] if len(outcome.value)]
    assert [[word["start_time"] for word in value["words"]] for value in told] == [[1.6], [1.6]]
    assert sum(len(outcome.audio) for outcome in got.of["s", 0]) == sound.samples.nbytes


class Listener(StreamingModel):
    """Answers one word, with times of its own."""

    def open(self, info):
        return None

    def step(self, states, batch):
        return [(None, Transcript("hi", [Word("hi", 7.0, 8.0)])) for _ in batch]


async def test_a_streaming_model_counts_from_the_streams_start_itself():
    got = Outcomes()
    async with running(Listener) as engine:
        got.submit(engine, job(start=24_000))
        outcome = await got.wait()
    assert read(outcome.value)["words"] == [{"word": "hi", "start_time": 7.0, "end_time": 8.0}]
