"""The numbers of speech: which are refused, and by which name."""

from __future__ import annotations

import dataclasses
import math

import pytest

from streamer.errors import BadRequest
from streamer.vad.settings import VadConfig


def test_defaults_are_the_published_ones() -> None:
    assert dataclasses.astuple(VadConfig()) == (0.5, 0.35, 600, 0, 600, 90, 30_000)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(VadConfig)])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, "0.5", None, 10**9])
def test_a_wrong_setting_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(BadRequest, match=rf"vad\.{name}: expected a number"):
        VadConfig(**{name: value})


def test_thresholds_must_not_cross() -> None:
    with pytest.raises(BadRequest, match=r"vad\.negative_speech_threshold: expected at most positive.* got 0.6"):
        VadConfig(negative_speech_threshold=0.6)


def test_the_longest_speech_must_exceed_the_shortest() -> None:
    with pytest.raises(BadRequest, match=r"vad\.max_speech_time_ms"):
        VadConfig(min_speech_time_ms=200, max_speech_time_ms=200)
