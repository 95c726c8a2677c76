"""A user's own test serves their model and talks to it."""

from __future__ import annotations

import numpy as np
import pytest

import streamer
from streamer.client import Segment
from streamer.errors import ModelLoadError
from streamer.testing import s16le, serve, tone


@streamer.model
def peak(samples: np.ndarray) -> dict[str, float]:
    return {"peak": float(abs(samples).max())}


class Counting(streamer.Model):
    def infer(self, batch):
        return [len(item.samples) for item in batch]


async def answers(model: object) -> list[object]:
    async with serve(model) as server, streamer.connect(server.endpoint("simple"), sample_rate=16_000) as stream:
        await stream.send(s16le(tone(440.0, 0.5)))
        await stream.stop()
        return [event.output async for event in stream if isinstance(event, Segment)]


async def test_a_function_is_served_and_answers() -> None:
    outputs = await answers(peak)
    assert outputs
    assert all(output["peak"] > 0 for output in outputs)


async def test_a_class_is_served_and_answers() -> None:
    assert sum(await answers(Counting)) == 8_000


async def test_a_malformed_model_fails_the_test_with_its_error() -> None:
    class Empty(streamer.Model):
        pass

    with pytest.raises(ModelLoadError, match="expected a method infer"):
        async with serve(Empty):
            pass
