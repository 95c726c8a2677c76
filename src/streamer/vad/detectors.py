"""Selection of the detector: by name, or by an import path."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np

from streamer.errors import ConfigError
from streamer.vad.energy import EnergyDetector
from streamer.vad.rows import SAMPLE_RATE, WINDOW, Detector, Floats
from streamer.vad.scorer import SpeechScorer
from streamer.vad.settings import TurnConfig, VadSection
from streamer.vad.silero import SileroScorer
from streamer.vad.turns import TurnScorer, make_turn_model

NAMES = ("silero", "energy", "none")
_METHODS = ("open", "close", "reset", "score", "score_windows")


class NoDetector(Detector[None]):
    """Everything is speech: one segment until a flush, a stop, or `vad.max_speech_time_ms`."""

    def begin(self) -> None:
        return None

    def probabilities(self, state: None, windows: Floats) -> Floats:
        return np.ones(len(windows), np.float32)


def make_detector(name: str) -> SpeechScorer:
    """Make a detector: `silero`, `energy`, `none`, or `package.module:Detector`, a SpeechScorer or what makes one.

    Raises ConfigError when there is none of that name, or it is no detector of 512 samples at 16 kHz.
    """
    if name == "silero":
        return SileroScorer()
    if name == "energy":
        return EnergyDetector()
    if name == "none":
        return NoDetector()
    return _own(name)


def make_scorer(vad: VadSection, turn: TurnConfig) -> SpeechScorer:
    """Make the detector, and the end-of-turn stage behind it when one is set. Raises ConfigError."""
    detector = make_detector(vad.detector)
    if not turn.model:
        return detector
    if turn.after_ms >= vad.redemption_time_ms:
        expected = f"less than vad.redemption_time_ms ({vad.redemption_time_ms:g})"
        raise ConfigError(field="turn.after_ms", expected=expected, got=turn.after_ms)
    return TurnScorer(detector, make_turn_model(turn.model), turn)


def _own(name: str) -> SpeechScorer:
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise _wrong(name, f"one of {', '.join(NAMES)}, or package.module:Detector")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:  # an installed command does not look where it is run
        sys.path.insert(0, str(Path.cwd()))
    try:
        detector = getattr(importlib.import_module(module), attribute)()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise _wrong(name, f"a detector that can be made ({reason})") from error
    missing = [method for method in _METHODS if not callable(getattr(detector, method, None))]
    if missing:
        raise _wrong(name, f"a SpeechScorer, which has {', '.join(missing)}")
    shape = (getattr(detector, "sample_rate", None), getattr(detector, "window", None))
    if shape != (SAMPLE_RATE, WINDOW):
        raise _wrong(name, f"windows of {WINDOW} samples at {SAMPLE_RATE} Hz, not of {shape[1]} at {shape[0]}")
    scorer: SpeechScorer = detector
    return scorer


def _wrong(name: str, expected: str) -> ConfigError:
    return ConfigError(field="vad.detector", expected=expected, got=name)
