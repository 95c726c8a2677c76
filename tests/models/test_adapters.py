"""Adapters to libraries whose weights are not here: what is missing is named; what comes back is put into our words.

The libraries are stood in for by modules with the same few names; their signatures were read off sherpa-onnx 2.0 and
faster-whisper 1.2.
"""

import sys
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from streamer.errors import ConfigError, ModelFailed, ModelLoadError
from streamer.models.contract import Segment, StreamInfo
from streamer.models.loading import load_model

PACKAGES = {"sherpa_onnx": "sherpa_onnx", "sherpa_onnx_streaming": "sherpa_onnx", "faster_whisper": "faster_whisper"}


def segment(n=16_000, *, start=160_000, is_final=True, options=None):
    return Segment(np.zeros(n, np.float32), 16_000, start, is_final, "s", 0, options or {})


@pytest.fixture
def library(monkeypatch):
    """Put a module of this name where the adapter will import it."""

    def put(name, **names):
        module = ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)

    return put


@pytest.mark.parametrize("name", PACKAGES)
def test_missing_package_is_told_with_what_to_install(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    with pytest.raises(ModelLoadError, match=r"is not installed: pip install 'streamer-audio\["):
        load_model(name, {"directory": str(tmp_path)}).load()


@pytest.mark.parametrize("name", PACKAGES)
def test_directory_that_is_not_there_is_named(name):
    with pytest.raises(
        ConfigError, match=r"model\.directory: expected a directory with the model's files, got '/none'"
    ):
        load_model(name, {"directory": "/none"})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sherpa_onnx", r"no model \(\*model\*\.int8\.onnx or \*model\*\.onnx\) in .*; found: README"),
        ("sherpa_onnx_streaming", r"no encoder \(.*\) in .*; found: README"),
        ("faster_whisper", r"no weights \(model\.bin\) in .*; found: README"),
    ],
)
def test_weights_that_are_not_there_are_named(name, words, tmp_path, library):
    library("sherpa_onnx", OfflineRecognizer=SimpleNamespace(from_sense_voice=None), OnlineRecognizer=None)
    library("faster_whisper", WhisperModel=None)
    (tmp_path / "README").touch()
    with pytest.raises(ModelLoadError, match=words):
        load_model(name, {"directory": str(tmp_path)}).load()


class OfflineStream:
    def accept_waveform(self, rate, samples):
        self.heard = (rate, len(samples))


class Offline:
    """sherpa_onnx.OfflineRecognizer, as far as it is used."""

    def __init__(self, kind, files):
        self.kind, self.files, self.batches = kind, files, []

    def create_stream(self):
        return OfflineStream()

    def decode_streams(self, streams):
        self.batches.append(len(streams))
        for stream in streams:
            stream.result = SimpleNamespace(text=f" {stream.heard[1]} ", tokens=["a", "b"], timestamps=[0.5, 0.75])


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["tiny-encoder.onnx", "tiny-decoder.onnx", "tiny-joiner.onnx"], "transducer"),
        (["tiny-encoder.onnx", "tiny-encoder.int8.onnx", "tiny-decoder.onnx"], "whisper"),
        (["model.onnx"], "sense_voice"),
    ],
)
def test_sherpa_tells_the_kind_by_the_files_and_decodes_a_batch_in_one_call(files, kind, tmp_path, library):
    built = []

    def build(name, **files):
        built.append(Offline(name, files))
        return built[-1]

    makers = {f"from_{name}": partial(build, name) for name in ("transducer", "whisper", "sense_voice")}
    library("sherpa_onnx", OfflineRecognizer=SimpleNamespace(**makers))
    for file in [*files, "tiny-tokens.txt"]:
        (tmp_path / file).touch()
    model = load_model("sherpa_onnx", {"directory": str(tmp_path)})
    model.load()
    answers = model.infer([segment(100), segment(200, start=0)])
    [recognizer] = built
    assert recognizer.kind == kind
    assert recognizer.batches == [2]
    if kind == "whisper":
        assert recognizer.files["encoder"].endswith("tiny-encoder.int8.onnx")
    assert answers == [
        {"text": "100", "tokens": [{"token": "a", "start_time": 10.5}, {"token": "b", "start_time": 10.75}]},
        {"text": "200", "tokens": [{"token": "a", "start_time": 0.5}, {"token": "b", "start_time": 0.75}]},
    ]


class Online:
    """sherpa_onnx.OnlineRecognizer: a word per second of audio, an endpoint after three."""

    @classmethod
    def from_transducer(cls, **files):
        assert files["enable_endpoint_detection"]
        return cls()

    def create_stream(self):
        stream = SimpleNamespace(waiting=0, words=0)
        stream.accept_waveform = lambda rate, samples: setattr(stream, "waiting", stream.waiting + len(samples))
        return stream

    def is_ready(self, stream):
        return stream.waiting >= 16_000

    def decode_streams(self, streams):
        for stream in streams:
            stream.waiting -= 16_000
            stream.words += 1

    def get_result(self, stream):
        return "la " * stream.words

    def is_endpoint(self, stream):
        return stream.words >= 3

    def reset(self, stream):
        stream.words = 0


def test_sherpa_streaming_listens_on_and_begins_anew_after_an_endpoint(tmp_path, library):
    library("sherpa_onnx", OnlineRecognizer=Online)
    for file in ("encoder.onnx", "decoder.onnx", "joiner.onnx", "tokens.txt"):
        (tmp_path / file).touch()
    model = load_model("sherpa_onnx_streaming", {"directory": str(tmp_path)})
    model.load()
    state = model.open(StreamInfo("s", 0, 16_000, {}))
    outputs = []
    for seconds in (1, 2, 1):
        [(state, output)] = model.step([state], [segment(16_000 * seconds)])
        outputs.append(output)
    assert outputs == [
        {"text": "la ", "endpoint": False},
        {"text": "la la la ", "endpoint": True},
        {"text": "la ", "endpoint": False},
    ]


class Whisper:
    """faster_whisper.WhisperModel, as far as it is used."""

    supported_languages = ("en", "de")

    def __init__(self, path, **settings):
        assert settings["local_files_only"]
        self.asked = []

    def transcribe(self, samples, **how):
        self.asked.append(how)
        words = [SimpleNamespace(word=" hello", start=0.1, end=0.4, probability=0.98765)]
        parts = [
            SimpleNamespace(text=" hello ", words=words if how["word_timestamps"] else None),
            SimpleNamespace(text=" there", words=None),
        ]
        return iter(parts), SimpleNamespace(language=how["language"] or "en")


def test_whisper_takes_the_clients_language_and_the_quick_way_for_interims(tmp_path, library):
    library("faster_whisper", WhisperModel=Whisper)
    (tmp_path / "model.bin").touch()
    model = load_model("faster_whisper", {"directory": str(tmp_path), "beam_size": 3})
    model.load()
    final, interim, wrong = model.infer(
        [segment(options={"language": "de"}), segment(is_final=False), segment(options={"language": "xx"})]
    )
    word = {"word": "hello", "start_time": 10.1, "end_time": 10.4, "confidence": 0.9877}
    assert final == {"text": "hello there", "language": "de", "words": [word]}
    assert interim == {"text": "hello there", "language": "en", "words": []}
    assert [how["beam_size"] for how in model._model.asked] == [3, 1]
    assert isinstance(wrong, ModelFailed)
    assert wrong.message == "options.language: expected one of en, de, got 'xx'"
