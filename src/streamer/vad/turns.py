"""End-of-turn stage behind the detector: decides in a pause whether the speaker's turn has ended.

It holds the probability of a pause in which the turn has not ended between the two thresholds, where the endpointer
counts no silence. So a turn that has ended is over after `vad.redemption_time_ms`, and one that has not waits for more.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.audio.mel import log_mel
from streamer.errors import ConfigError
from streamer.vad.rows import SAMPLE_RATE, WINDOW
from streamer.vad.scorer import Row, SpeechScorer
from streamer.vad.settings import TurnConfig, VadConfig

Floats = NDArray[np.float32]

SECONDS = 8
"""Audio that a turn model hears: the last of it."""

_KEPT = SECONDS * SAMPLE_RATE
_SILENT, _SPEECH = VadConfig().negative_speech_threshold, VadConfig().positive_speech_threshold
_BETWEEN = (_SILENT + _SPEECH) / 2
_PACKAGE, _FILE = "pipecat", "audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"
_MAX_BATCH = 8


class TurnModel(Protocol):
    """Tells whether turns have ended."""

    def ended(self, audio: Sequence[Floats]) -> list[float]:
        """Return the probability of an end of turn for each entry: float32 [n], at most 8 s at 16 kHz."""
        ...


class SmartTurn:
    """Smart Turn v3 on onnxruntime, with one thread: about 60 ms per pause."""

    def __init__(self, path: Path) -> None:
        """Load the network. Raises ConfigError if onnxruntime is missing or the file has another network."""
        try:
            import onnxruntime  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise ConfigError("turn.model: onnxruntime is not installed: pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            [self._input] = [node.name for node in self._session.get_inputs()]
            self.ended([np.zeros(_KEPT, np.float32)])
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            expected = f"a network of Smart Turn v3 ({reason})"
            raise ConfigError(field="turn.model", expected=expected, got=str(path)) from error

    def ended(self, audio: Sequence[Floats]) -> list[float]:
        probabilities: list[float] = []
        for at in range(0, len(audio), _MAX_BATCH):
            features = np.stack([log_mel(_normalised(samples), 80, SECONDS) for samples in audio[at : at + _MAX_BATCH]])
            [found] = self._session.run(None, {self._input: features})
            probabilities += [float(value) for value in np.asarray(found).reshape(-1)]
        return probabilities


def _normalised(samples: Floats) -> Floats:
    """Return the last 8 s, padded with silence in front, with mean 0 and variance 1."""
    padded = np.zeros(_KEPT, np.float32)
    used = samples[-_KEPT:]
    padded[_KEPT - len(used) :] = used
    return np.asarray((padded - padded.mean()) / np.sqrt(padded.var() + 1e-7), dtype=np.float32)


def make_turn_model(name: str) -> TurnModel:
    """Make the model of `turn.model`. Raises ConfigError when it is not there."""
    if name != "smart_turn":
        path = Path(name).expanduser()
        if not path.is_file():
            raise ConfigError(field="turn.model", expected="smart_turn, or the path of an onnx file", got=name)
        return SmartTurn(path)
    spec = importlib.util.find_spec(_PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(place) / _FILE).is_file():
            return SmartTurn(path)
    raise ConfigError("turn.model: smart_turn needs the package that has it: pip install --no-deps pipecat-ai==1.14.0")


@dataclass(slots=True)
class _Turn:
    """The state of one stream. `audio`: its last 8 s, int16. `is_over`: the answer for the pause that goes on."""

    audio: NDArray[np.int16] = field(default_factory=lambda: np.zeros(_KEPT, np.int16))
    position: int = 0
    spoken: bool = False
    silence: int = 0
    is_over: bool | None = None

    def append(self, window: Floats) -> None:
        at = self.position % _KEPT  # a whole number of windows fits
        self.audio[at : at + WINDOW] = np.clip(window * 32_767, -32_768, 32_767)
        self.position += WINDOW

    def last(self) -> Floats:
        at = self.position % _KEPT
        whole = np.concatenate((self.audio[at:], self.audio[:at]))
        return (whole[-min(self.position, _KEPT) :] / 32_767).astype(np.float32)


class TurnScorer:
    """A SpeechScorer that lets another one score, and holds pauses in which the turn has not ended.

    A pure function of each stream's audio, so that the same audio gives the same segments. The model is asked once a
    pause, for all streams of a batch together. Each open stream keeps 256 KB.
    """

    def __init__(self, scorer: SpeechScorer, model: TurnModel, config: TurnConfig) -> None:
        self.sample_rate = scorer.sample_rate
        self.window = scorer.window
        self._scorer = scorer
        self._model = model
        self._threshold = config.threshold
        self._after = math.ceil(config.after_ms * SAMPLE_RATE / 1000 / WINDOW)
        self._hold = math.ceil(config.hold_ms * SAMPLE_RATE / 1000 / WINDOW)
        self._turns: dict[Row, _Turn] = {}

    def open(self) -> Row:
        row = self._scorer.open()
        self._turns[row] = _Turn()
        return row

    def close(self, row: Row) -> None:
        self._scorer.close(row)
        del self._turns[row]

    def reset(self, row: Row) -> None:
        self._scorer.reset(row)
        self._turns[row] = _Turn()

    def score(self, pending: Sequence[tuple[Row, Floats]]) -> list[Floats]:
        scores = self._scorer.score(pending)
        self._hold_pauses(
            [(row, samples.reshape(-1, WINDOW), out) for (row, samples), out in zip(pending, scores, strict=True)]
        )
        return scores

    def score_windows(self, rows: Sequence[Row], counts: Sequence[int], windows: Floats) -> Floats:
        scores = np.array(self._scorer.score_windows(rows, counts, windows))
        ends = np.cumsum(counts)
        parts = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        self._hold_pauses([(row, windows[part], scores[part]) for row, part in zip(rows, parts, strict=True)])
        return scores

    def _hold_pauses(self, streams: Sequence[tuple[Row, Floats, Floats]]) -> None:
        """Change scores in place. Each stream goes on until its turn is asked for; then all of them are asked."""
        going = [(self._turns[row], windows, scores, 0) for row, windows, scores in streams]
        while going:
            pausing = []
            for turn, windows, scores, begin in going:
                at = self._until_pause(turn, windows, scores, begin)
                if at is not None:
                    pausing.append((turn, windows, scores, at))
            answers = self._model.ended([turn.last() for turn, *_ in pausing]) if pausing else []
            for (turn, _, scores, at), probability in zip(pausing, answers, strict=True):
                turn.is_over = probability >= self._threshold
                self._put(turn, scores, at)
            going = [(turn, windows, scores, at + 1) for turn, windows, scores, at in pausing]

    def _until_pause(self, turn: _Turn, windows: Floats, scores: Floats, begin: int) -> int | None:
        """Take windows until one at which the model is to be asked; its index, None at the end."""
        for at in range(begin, len(windows)):
            turn.append(windows[at])
            score = scores[at]
            if score >= _SILENT:
                turn.silence, turn.is_over = 0, None
                turn.spoken |= bool(score > _SPEECH)
                continue
            turn.silence += 1
            if turn.spoken and turn.is_over is None and turn.silence >= self._after:
                return at
            self._put(turn, scores, at)
        return None

    def _put(self, turn: _Turn, scores: Floats, at: int) -> None:
        if turn.is_over is False:
            if turn.silence <= self._hold:
                scores[at] = _BETWEEN
            else:
                turn.spoken = False  # nothing more to wait for
        elif turn.is_over:
            turn.spoken = False
