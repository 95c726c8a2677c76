"""A recogniser declares the source of its times of words, and clients and operators can read it."""

from __future__ import annotations

import io
from pathlib import Path

import aiohttp
import pytest
from rich.console import Console

from streamer.app import App
from streamer.cli.check import show
from streamer.cli.profiling import ModelProfile
from streamer.config import ServerSettings, Settings
from streamer.errors import ModelLoadError
from streamer.inference.model_config import ModelConfig
from streamer.inference.process_profile import ProcessProfile
from streamer.models.loading import load_model

MODEL = """
import streamer

class Recogniser(streamer.Model):
    word_times = "estimated"

    def infer(self, batch):
        return [streamer.Transcript("hello") for _ in batch]
"""


@pytest.fixture
def recogniser(tmp_path: Path) -> str:
    path = tmp_path / "recogniser.py"
    path.write_text(MODEL)
    return f"{path}:Recogniser"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("stub", ""),
        ("moonshine", "estimated"),
        ("whisper", "model"),
        ("pocketsphinx", "model"),
        ("parakeet", "model"),
        ("sherpa", "estimated"),
    ],
)
def test_included_models_declare_the_source_of_their_times_of_words(name: str, source: str) -> None:
    assert ModelConfig.of(load_model(name, {})).word_times == source


def test_whisper_on_sherpa_onnx_has_estimated_times(tmp_path: Path) -> None:
    (tmp_path / "tiny-encoder.onnx").touch()
    assert load_model("sherpa_onnx", {"directory": str(tmp_path)}).word_times == "estimated"
    (tmp_path / "tiny-joiner.onnx").touch()
    assert load_model("sherpa_onnx", {"directory": str(tmp_path)}).word_times == "model"


def test_an_unknown_source_is_refused() -> None:
    model = load_model("stub", {})
    model.word_times = "guessed"  # type: ignore[assignment]
    with pytest.raises(ModelLoadError, match="word_times: expected 'model', 'estimated' or '', got 'guessed'"):
        ModelConfig.of(model)


async def test_info_has_the_source_of_the_times_of_words(recogniser: str) -> None:
    settings = Settings(server=ServerSettings(model=recogniser, port=0))
    async with App(settings) as app, aiohttp.ClientSession() as http, http.get(app.url + "/api/v2/info") as response:
        assert (await response.json())["model"] == {
            "name": "Recogniser",
            "sample_rate": 16_000,
            "word_times": "estimated",
        }


def test_check_prints_the_source_of_the_times_of_words(recogniser: str) -> None:
    card = ModelConfig.of(load_model(recogniser, {}))
    out = io.StringIO()
    show(ModelProfile(card, ProcessProfile(0.5, 2**20, 1.0, 1.0), "", [], [], 4), Console(file=out, width=100))
    assert "times of words: estimated from the lengths of the words" in out.getvalue()


def test_check_says_why_a_model_is_not_served_in_other_dialects() -> None:
    card = ModelConfig.of(load_model("stub", {}))
    out = io.StringIO()
    show(ModelProfile(card, ProcessProfile(0.5, 2**20, 1.0, 1.0), "", [], [], 4), Console(file=out, width=100))
    assert "word_times is not set" in out.getvalue()


def test_known_options_are_names() -> None:
    assert ModelConfig.of(load_model("whisper", {})).known_options == ("language", "task", "prompt", "beam_size")
    model = load_model("stub", {})
    model.known_options = (1,)  # type: ignore[assignment]
    with pytest.raises(ModelLoadError, match="known_options: expected a tuple of text"):
        ModelConfig.of(model)
