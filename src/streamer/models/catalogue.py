"""Weights that Streamer knows by name: where they are, what they need, who may use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Packaged:
    """Weights that travel inside a package of the Python index.

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
MOONSHINE_FILES = ("onnx/encoder_model.onnx", "onnx/decoder_model_merged_quantized.onnx", "tokenizer.json")


def _moonshine(variant: str, megabytes: int, languages: str, licence: str, packaged: Packaged | None = None) -> Weights:
    size, _, language = variant.partition("-")
    repository = f"onnx-community/moonshine-{size}{'' if language == 'en' else '-' + language}-ONNX"
    return Weights("moonshine", variant, repository, MOONSHINE_FILES, megabytes, languages, licence, packaged=packaged)


_ALL = (
    _moonshine("tiny-en", 52, "en", "MIT", _TINY_EN),
    _moonshine("base-en", 123, "en", "MIT"),
)

CATALOGUE: Mapping[str, Weights] = MappingProxyType({weights.name: weights for weights in _ALL})
"""All weights with a name, by `model:variant`."""

PATTERNS: Mapping[str, tuple[str, ...]] = MappingProxyType({"moonshine": MOONSHINE_FILES})
"""The files that are fetched from a repository that is not in the catalogue, by model."""
