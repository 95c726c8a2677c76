"""A model that does not fit the interface is refused before the server is ready, with the line to change."""

from __future__ import annotations

import inspect
import threading

import pytest

from streamer.errors import ModelFailed, ModelLoadError
from streamer.inference.settings import EngineSettings
from streamer.models.contract import FunctionModel, Model, StreamingModel
from tests.inference.harness import running


def without_argument():
    return 1


class NoInfer(Model):
    pass


class NoStep(StreamingModel):
    def open(self, info):
        return 0


class NoOpen(StreamingModel):
    def step(self, states, batch):
        return list(zip(states, batch, strict=True))


class InferWithoutBatch(Model):
    def infer(self):
        return []


class OnlyOutputs(StreamingModel):
    def open(self, info):
        return 0

    def step(self, states, batch):
        return [{"n": 1} for _ in batch]


class TooMany(Model):
    def infer(self, batch):
        return [1, 2]


class ADict(Model):
    def infer(self, batch):
        return {"text": "x"}


class WarmFails(Model):
    def warm(self):
        raise RuntimeError("no GPU")

    def infer(self, batch):
        return [1]


class OpenFails(StreamingModel):
    def open(self, info):
        raise RuntimeError("no state")

    def step(self, states, batch):
        return []


def no_json(samples):
    return object()


def divides(samples):
    return 1 // int(abs(samples).max())


@pytest.mark.parametrize(
    ("make", "words", "change"),
    [
        (lambda: FunctionModel(without_argument), r"a function that takes \(samples\), got \(\)", without_argument),
        (NoInfer, r"expected a method infer\(self, batch\), as every Model has, got none", NoInfer),
        (NoStep, r"expected a method step\(self, states, batch\), as every StreamingModel has, got none", NoStep),
        (NoOpen, r"expected a method open\(self, info\), as every StreamingModel has, got none", NoOpen),
        (InferWithoutBatch, r"expected a function that takes \(batch\), got \(\)", InferWithoutBatch.infer),
        (OnlyOutputs, r"step\(\) must return a pair \(state, output\) per item; got {'n': 1}", OnlyOutputs.step),
        (TooMany, r"must return one output per item, a list of 1 here; got 2 outputs for 1 items", TooMany.infer),
        (ADict, r"must return one output per item, a list of 1 here; got {'text': 'x'}", ADict.infer),
        (lambda: FunctionModel(no_json), "output is not JSON: a value of type object; change no_json", no_json),
    ],
)  # fmt: skip
async def test_a_malformed_model_is_refused_with_what_was_expected_what_came_and_the_line_to_change(
    make, words, change
):
    with pytest.raises(ModelLoadError, match=words) as refused:
        async with running(make):
            pass
    _, line = inspect.getsourcelines(change)
    assert refused.value.message.endswith(f"{__file__}, line {line}")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (WarmFails, "warming the model up failed: RuntimeError: no GPU"),
        (OpenFails, "failed on its first call, 1 s of silence: RuntimeError: no state"),
        (lambda: FunctionModel(divides), "failed on its first call, 1 s of silence: ZeroDivisionError: .*ModelFailed"),
    ],
)
async def test_a_model_whose_warm_up_fails_is_not_ready_and_its_authors_traceback_is_told(make, words):
    with pytest.raises(ModelLoadError, match=words) as refused:
        async with running(make):
            pass
    assert f'File "{__file__}", line' in refused.value.detail
    assert "/src/streamer/" not in refused.value.detail


async def test_a_model_that_refuses_silence_on_purpose_is_ready():
    def picky(samples):
        raise ModelFailed("too quiet")

    async with running(lambda: FunctionModel(picky)) as engine:
        assert engine.readiness.ready


async def test_a_load_that_fails_is_told_once(caplog):
    class NoWeights(Model):
        workers = 3

        def load(self):
            raise OSError("no weights")

        def infer(self, batch):
            return [1]

    with pytest.raises(ModelLoadError, match="no weights") as refused:
        async with running(NoWeights):
            pass
    assert refused.value.message.count("no weights") == 1
    assert refused.value.detail.count("Traceback") == 1
    assert not caplog.records


async def test_a_first_call_that_hangs_is_given_up_at_its_time_and_a_slow_load_is_not():
    gate = threading.Event()

    class Hangs(Model):
        timeout_floor_s = 0.01
        timeout_factor = 0.0

        def infer(self, batch):
            gate.wait()
            return [1]

    with pytest.raises(ModelLoadError, match=r"the first call, on 1 s of silence, took more than 0\.01 s"):
        async with running(Hangs, EngineSettings(first_call_timeout_s=0.001, load_timeout_s=200.0)):
            pass
    gate.set()
