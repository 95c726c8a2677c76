"""How a test's audio is kept, where it can be."""

from __future__ import annotations

import numpy as np

from streamer.audio.deferred_decoder import DeferredDecoder, deferred_decoder
from streamer.audio.format import Encoding


def kept(encoding: Encoding = Encoding.PCM_S16LE, rate: int = 16_000) -> DeferredDecoder:
    """Until it is wanted at 16 kHz."""
    made = deferred_decoder(encoding, rate, 16_000)
    assert made is not None
    return made


def noise(encoding: Encoding, samples: int, seed: int) -> bytes:
    """Any samples there can be."""
    chance = np.random.default_rng(seed)
    if encoding is Encoding.PCM_F32LE:
        return chance.uniform(-1, 1, samples).astype("<f4").tobytes()
    return chance.bytes(samples * encoding.sample_bytes)
