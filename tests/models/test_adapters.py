"""Adapters to libraries whose weights are not here: what is missing is named; what comes back is put into our words.

The libraries are stood in for by modules with the same few names; their signatures were read off sherpa-onnx 2.0.
"""

import sys
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from streamer.errors import ConfigError, ModelLoadError
from streamer.models.contract import AudioSegment, StreamInfo
from streamer.models.loading import load_model
from streamer.transcripts.transcript import Transcript, Word

PACKAGES = {"sherpa_onnx": "sherpa_onnx", "sherpa_onnx_streaming": "sherpa_onnx"}


def segment(n=16_000, *, start=160_000, is_final=True, options=None):
    return AudioSegment(np.zeros(n, np.float32), 16_000, start, is_final, "s", 0, options or {})


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
    ],
)
def test_weights_that_are_not_there_are_named(name, words, tmp_path, library):
    library("sherpa_onnx", OfflineRecognizer=SimpleNamespace(from_sense_voice=None), OnlineRecognizer=None)
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
            stream.result = SimpleNamespace(
                text=f" {stream.heard[1]} ", tokens=[" a", "b", " c"], timestamps=[0.5, 0.6, 0.75]
            )


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
    answers = model.infer([segment(16_000), segment(32_000, start=0)])
    [recognizer] = built
    assert recognizer.kind == kind
    assert recognizer.batches == [2]
    if kind == "whisper":
        assert recognizer.files["encoder"].endswith("tiny-encoder.int8.onnx")
    assert answers == [
        Transcript("16000", [Word("ab", 0.5, 0.75), Word("c", 0.75, 1.0)]),
        Transcript("32000", [Word("ab", 0.5, 0.75), Word("c", 0.75, 2.0)]),
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
        Transcript("la", endpoint=False),
        Transcript("la la la", endpoint=True),
        Transcript("la", endpoint=False),
    ]


@pytest.mark.parametrize(
    ("name", "kind"), [("sherpa:zipformer-en-20M", "sherpa_onnx_streaming"), ("parakeet:tdt-0.6b-v3", "sherpa_onnx")]
)
def test_a_name_or_a_directory_may_stand_after_the_model(name, kind, tmp_path, monkeypatch):
    assert load_model(name).name == kind
    assert load_model(f"{name.partition(':')[0]}:{tmp_path}").fetch() == tmp_path
    monkeypatch.setenv("STREAMER_OFFLINE", "1")
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path))
    with pytest.raises(ModelLoadError, match=rf"the weights {name} are not on this machine"):
        load_model(name).fetch()


def test_parakeet_is_built_as_nemos_transducer(tmp_path, library):
    built = []
    maker = SimpleNamespace(from_transducer=lambda **files: built.append(files))
    library("sherpa_onnx", OfflineRecognizer=maker)
    for file in ("encoder.int8.onnx", "decoder.int8.onnx", "joiner.int8.onnx", "tokens.txt"):
        (tmp_path / file).touch()
    load_model(f"parakeet:{tmp_path}").load()
    assert built[0]["model_type"] == "nemo_transducer"
    assert built[0]["joiner"].endswith("joiner.int8.onnx")
