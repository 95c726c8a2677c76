"""Whisper before its weights are there: what it says about itself."""

import pytest

from streamer.inference.model_config import ModelConfig
from streamer.models.loading import load_model

ALL = ("language", "task", "prompt", "beam_size")
OF_ENGLISH = ("prompt", "beam_size")


@pytest.mark.parametrize(
    ("weights", "options"),
    [
        ("tiny", ALL),
        ("large-v3-turbo", ALL),
        ("someone/faster-whisper-mine", ALL),
        ("tiny.en", OF_ENGLISH),
        ("distil-large-v3", OF_ENGLISH),
        ("someone/faster-whisper-mine.en", OF_ENGLISH),
        ("/weights/small.en/", OF_ENGLISH),
    ],
)
def test_weights_for_english_only_read_no_language_and_no_task(weights: str, options: tuple[str, ...]) -> None:
    assert ModelConfig.of(load_model("whisper", {"weights": weights})).known_options == options
