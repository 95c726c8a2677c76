"""What `@streamer.model` takes, and what it says to anything else."""

from __future__ import annotations

import numpy as np
import pytest

import streamer


def test_a_decorated_function_is_a_model_and_still_a_function() -> None:
    @streamer.model(sample_rate=8_000, workers=2)
    def length(samples: np.ndarray) -> int:
        return len(samples)

    assert (length.name, length.sample_rate, length.workers) == ("length", 8_000, 2)
    assert length(np.zeros(3, np.float32)) == 3


def test_a_class_is_not_decorated_by_mistake() -> None:
    with pytest.raises(TypeError, match=r"a class derives from streamer\.Model"):

        @streamer.model()
        class Wrong(streamer.Model):
            pass


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(TypeError, match=r"\['sample_rat'\]"):
        streamer.model(sample_rat=8_000)
