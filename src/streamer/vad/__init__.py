"""Speech detection: the batched scorer, the endpointer, and both over a whole recording.

Names are imported on first use, so that the endpointer alone does not load the network.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamer.vad.endpointer import Endpointer, SpeechOffset, SpeechOnset
    from streamer.vad.energy import EnergyDetector
    from streamer.vad.recording import speech_probabilities, speech_segments
    from streamer.vad.rows import Detector
    from streamer.vad.scorer import SpeechScorer
    from streamer.vad.settings import VadConfig
    from streamer.vad.silero import SileroScorer

__all__ = [
    "Detector",
    "Endpointer",
    "EnergyDetector",
    "SileroScorer",
    "SpeechOffset",
    "SpeechOnset",
    "SpeechScorer",
    "VadConfig",
    "speech_probabilities",
    "speech_segments",
]

_HOMES = {
    "Detector": "rows",
    "Endpointer": "endpointer",
    "EnergyDetector": "energy",
    "SileroScorer": "silero",
    "SpeechOffset": "endpointer",
    "SpeechScorer": "scorer",
    "SpeechOnset": "endpointer",
    "VadConfig": "settings",
    "speech_probabilities": "recording",
    "speech_segments": "recording",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
