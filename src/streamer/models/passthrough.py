"""A model that answers with the audio that it gets: the reference for exactness and for delay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamer.models.contract import AudioOut, AudioSegment, Model


class Passthrough(Model):
    """Answers with its input, unchanged. `sample_rate` is also the rate of the output."""

    name = "passthrough"
    max_batch_size = 64
    max_batch_wait_ms = 0.0

    def __init__(self, sample_rate: int = 16_000) -> None:
        """Create the model. `sample_rate` in Hz."""
        self.sample_rate = self.output_sample_rate = sample_rate

    def infer(self, batch: Sequence[AudioSegment]) -> Sequence[Any]:
        return [AudioOut(item.samples, item.sample_rate) for item in batch]
