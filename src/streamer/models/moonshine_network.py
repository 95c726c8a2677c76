"""Moonshine's encoder and decoder on onnxruntime: audio of several segments in, text out, decoded greedily together."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import ModelLoadError
from streamer.models.weight_files import missing_package, require_file

RATE = 16_000
TOKENS_PER_SECOND = 6.5
"""Maximum of Moonshine's authors for speech. On noise, the network would not stop by itself."""

_MIN_TOKENS = 8
_MIN_SAMPLES = 4_000  # of the convolutions before the encoder
_START, _END = 1, 2
_LOOPS = ((1, 10), (2, 8), (3, 6), *((period, 4) for period in range(4, 13)))
"""(period in tokens, repetitions) that count as a loop of the decoder."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Decoded:
    """The text of one piece. `confidence`: the geometric mean of the tokens' probabilities, 0 for no text."""

    text: str
    confidence: float


class MoonshineNetwork:
    """The two networks and the tokenizer of one directory. `decode` may run in several threads at a time."""

    def __init__(self, directory: Path, threads: int) -> None:
        """Read the networks. Raises ModelLoadError when onnxruntime or a file is missing or invalid."""
        try:
            import onnxruntime  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise missing_package("onnxruntime", "moonshine") from error
        encoder = require_file(directory, "encoder", "**/encoder_model*.ort", "**/encoder_model*.onnx")
        decoder = require_file(directory, "decoder", "**/decoder_model_merged*.ort", "**/decoder_model_merged*.onnx")
        tokenizer = require_file(directory, "tokenizer", "**/tokenizer.bin", "**/tokenizer.json")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # it keeps the most that any batch ever took
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._encoder, self._decoder = (
                onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
                for path in (encoder, decoder)
            )
            self._tokens = _read_tokens(Path(tokenizer))
            self._read_shapes()
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelLoadError(f"{directory} holds no Moonshine networks that can be read: {reason}") from error

    def _read_shapes(self) -> None:
        inputs = {node.name: node.shape for node in self._decoder.get_inputs()}
        self._past = [name for name in inputs if name.startswith("past_key_values.")]
        if not self._past:
            raise ValueError("the decoder has no key-value cache")
        _, self._heads, _, self._width = inputs[self._past[0]]
        self._masks_decoder = "encoder_attention_mask" in inputs
        self._masks_encoder = "attention_mask" in {node.name for node in self._encoder.get_inputs()}
        self._present = [name.replace("past_key_values", "present") for name in self._past]

    @property
    def batches(self) -> bool:
        """Whether segments of unequal length can share a call, which needs masks in the exported networks."""
        return self._masks_encoder and self._masks_decoder

    def decode(self, audio: Sequence[NDArray[np.float32]]) -> list[Decoded]:
        """Return the text of each piece: float32 [n] at 16 kHz, at most half a minute. Any number of pieces."""
        if not self.batches:
            return [decoded for piece in audio for decoded in self._together([piece])]
        results: list[Decoded] = [Decoded("", 0.0)] * len(audio)
        for group in _similar([len(piece) for piece in audio]):
            for index, decoded in zip(group, self._together([audio[index] for index in group]), strict=True):
                results[index] = decoded
        return results

    def _together(self, audio: Sequence[NDArray[np.float32]]) -> list[Decoded]:
        longest = max(_MIN_SAMPLES, *(len(piece) for piece in audio))
        samples = np.zeros((len(audio), longest), np.float32)
        mask = np.zeros(samples.shape, np.int64)
        for row, piece in enumerate(audio):
            samples[row, : len(piece)] = piece
            mask[row, : max(len(piece), _MIN_SAMPLES)] = 1
        feed: dict[str, Array] = {"input_values": samples}
        if self._masks_encoder:
            feed["attention_mask"] = mask
        [hidden] = self._encoder.run(None, feed)
        texts = [_Text(max(_MIN_TOKENS, int(len(piece) / RATE * TOKENS_PER_SECOND))) for piece in audio]
        self._extend(texts, hidden, mask)
        return [Decoded(self._spell(text.tokens), text.confidence) for text in texts]

    def _extend(self, texts: Sequence[_Text], hidden: Array, mask: Array) -> None:
        """Add token after token to each text until all are complete."""
        open_texts = list(texts)
        empty = np.zeros((len(texts), self._heads, 0, self._width), np.float32)
        past: dict[str, Array] = dict.fromkeys(self._past, empty)
        latest = np.full((len(texts), 1), _START, np.int64)
        first = True
        while True:
            feed = {"input_ids": latest, "encoder_hidden_states": hidden, "use_cache_branch": np.array([not first])}
            if self._masks_decoder:
                feed["encoder_attention_mask"] = mask
            logits, *present = self._decoder.run(["logits", *self._present], feed | past)
            fresh = zip(self._past, present, strict=True)
            past |= {name: value for name, value in fresh if first or ".decoder." in name}  # the audio's stays
            first = False
            logits = logits[:, -1]
            chosen = logits.argmax(-1)
            for text, token, row in zip(open_texts, chosen, logits, strict=True):
                text.add(int(token), row)
            going = [index for index, text in enumerate(open_texts) if not text.complete]
            if not going:
                return
            latest = chosen[:, None].astype(np.int64)
            if len(going) <= len(open_texts) // 2:  # smaller arrays are worth a copy
                open_texts = [open_texts[index] for index in going]
                past = {name: value[going] for name, value in past.items()}
                latest, hidden, mask = latest[going], hidden[going], mask[going]

    def _spell(self, tokens: Sequence[int]) -> str:
        joined = b"".join(self._tokens[token] for token in tokens).decode("utf-8", "replace")
        return re.sub(r"<[^<>]*>", "", joined.replace("\u2581", " ")).strip()


class _Text:
    """The tokens of one segment while they are decoded."""

    __slots__ = ("_log_probability", "_max_entries", "complete", "tokens")

    def __init__(self, max_entries: int) -> None:
        self.tokens: list[int] = []
        self.complete = False
        self._max_entries = max_entries
        self._log_probability = 0.0

    def add(self, token: int, logits: Array) -> None:
        if self.complete:
            return
        if token == _END:
            self.complete = True
            return
        self.tokens.append(token)
        top = logits[token]
        self._log_probability -= float(np.log(np.exp(logits - top).sum()))
        if (period := _loop(self.tokens)) is not None:
            repetitions = dict(_LOOPS)[period]
            del self.tokens[-period * (repetitions - 1) :]
            self.complete = True
        self.complete |= len(self.tokens) >= self._max_entries

    @property
    def confidence(self) -> float:
        return float(np.exp(self._log_probability / len(self.tokens))) if self.tokens else 0.0


def _loop(tokens: Sequence[int]) -> int | None:
    """Return the period of a loop at the end of `tokens`, None when there is none."""
    for period, repetitions in _LOOPS:
        length = period * repetitions
        if len(tokens) >= length and tokens[-length:-period] == tokens[-length + period :]:
            return period
    return None


def _similar(lengths: Sequence[int]) -> list[list[int]]:
    """Return the indices in groups of which none has a piece less than half as long as its longest."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if groups and lengths[index] * 2 >= lengths[groups[-1][0]]:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _read_tokens(path: Path) -> list[bytes]:
    """Return the bytes of each token, by its number."""
    return _read_json(path) if path.suffix == ".json" else _read_binary(path.read_bytes())


def _read_binary(data: bytes) -> list[bytes]:
    """Read Moonshine's own format: a length in one byte, or two from 128 on, before each token."""
    tokens, at = [], 0
    while at < len(data):
        length = data[at]
        at += 1
        if length >= 128:
            length = length - 128 + data[at] * 128
            at += 1
        tokens.append(data[at : at + length])
        at += length
    return tokens


def _read_json(path: Path) -> list[bytes]:
    """Read a byte-pair vocabulary of Hugging Face's tokenizers; `<0x41>` is a byte."""
    document = json.loads(path.read_text("utf-8"))
    numbered = dict(document["model"]["vocab"])
    numbered |= {token["content"]: token["id"] for token in document.get("added_tokens", ())}
    tokens = [b""] * (max(numbered.values()) + 1)
    for text, number in numbered.items():
        byte = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", text)
        tokens[number] = bytes([int(byte[1], 16)]) if byte else text.encode()
    return tokens
