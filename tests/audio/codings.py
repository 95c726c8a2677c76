"""How a test's audio is kept, where it can be."""

from __future__ import annotations

from streamer.audio.coding import Coding, coding
from streamer.audio.format import Encoding


def kept(encoding: Encoding = Encoding.PCM_S16LE, rate: int = 16_000) -> Coding:
    """Until it is wanted at 16 kHz."""
    made = coding(encoding, rate, 16_000)
    assert made is not None
    return made
