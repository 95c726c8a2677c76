"""The stub behaves as its hyperparameters say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import ModelFailed
from streamer.models.contract import AudioSegment
from streamer.models.loading import load_model
from streamer.models.stub import Stub, flaky, speedy

ORIGINAL = {"delay": 0.5, "constant_factor": 0.3, "jitter": 0.2, "failure_rate": 0.01, "panic_rate": 0.0,
            "warmup_penalty": 10.0}  # fmt: skip


def segment(seconds=1.0, session_id="s"):
    return AudioSegment(np.zeros(int(16_000 * seconds), np.float32), 16_000, 0, True, session_id, 0, {})


def paused(stub):
    naps = []
    stub.pause = naps.append
    return naps


def test_output_counts_the_samples():
    assert speedy().infer([segment(0.5), segment(1.0)]) == [{"count": 8_000}, {"count": 16_000}]


def test_original_configuration_is_accepted_as_it_stands():
    stub = load_model("stub", ORIGINAL)
    assert (stub.delay, stub.constant_factor, stub.jitter, stub.warmup_penalty) == (0.5, 0.3, 0.2, 10.0)


@given(
    seconds=st.floats(0.01, 5),
    delay=st.floats(0, 2),
    factor=st.floats(0, 2),
    jitter=st.floats(0, 2),
    seed=st.integers(0, 100),
)
def test_duration_is_length_times_factor_plus_delay_plus_jitter_and_never_negative(
    seconds, delay, factor, jitter, seed
):
    duration = Stub(delay=delay, constant_factor=factor, jitter=jitter, seed=seed).duration(seconds)
    expected = seconds * factor + delay
    assert max(0, expected - jitter) - 1e-9 <= duration <= expected + jitter + 1e-9


def test_first_call_of_a_worker_pays_the_warmup_penalty():
    stub = Stub(delay=0.5, warmup_penalty=10.0)
    naps = paused(stub)
    stub.infer([segment()])
    stub.infer([segment()])
    assert naps == [pytest.approx(5.5), pytest.approx(0.5)]


def test_failures_come_at_their_rate_and_only_for_sessions():
    stub = flaky(failure_rate=0.25, seed=1)
    answers = [stub.infer([segment(0.01)])[0] for _ in range(400)]
    failures = [answer for answer in answers if isinstance(answer, ModelFailed)]
    assert 60 < len(failures) < 140
    assert failures[0].message == "Unexpected inference failure"
    assert stub.infer([segment(0.01, session_id="")] * 50) == [{"count": 160}] * 50


def test_panic_is_an_uncaught_error_and_only_for_sessions():
    stub = flaky(failure_rate=0.0, panic_rate=1.0)
    with pytest.raises(RuntimeError):
        stub.infer([segment()])
    assert stub.infer([segment(session_id="")]) == [{"count": 16_000}]


def test_seed_makes_the_draws_repeatable():
    def run():
        stub = flaky(failure_rate=0.5, seed=7)
        return [isinstance(answer, ModelFailed) for answer in stub.infer([segment(0.01)] * 32)]

    assert run() == run()
