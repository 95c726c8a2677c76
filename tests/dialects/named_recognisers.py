"""Recognisers for a server with several models: each says its name, whatever it hears."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamer.models.contract import AudioSegment, Model


class Recogniser(Model):
    """Answers with its name as the transcript."""

    word_times = "estimated"
    timeout_floor_s = 60.0

    def __init__(self, name: str, sample_rate: int = 16_000, known_options: Sequence[str] = ()) -> None:
        self.name = name
        self.sample_rate = sample_rate
        self.known_options = tuple(known_options)

    def infer(self, batch: Sequence[AudioSegment]) -> list[Any]:
        return [{"text": f"This is {self.name}."} for _ in batch]


class Counter(Model):
    """Answers with a number of samples, which is no transcript."""

    def infer(self, batch: Sequence[AudioSegment]) -> list[Any]:
        return [len(item.samples) for item in batch]
