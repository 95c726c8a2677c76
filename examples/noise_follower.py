"""A model with a memory: each channel's noise floor is followed from piece to piece.

streamer serve examples/noise_follower.py:NoiseFollower
streamer client -i FILE -a ws://localhost:8080/api/v1/simple

The state of a channel lives on one worker from its first piece to the end of its stream, and its pieces come one at a
time, in order; so nothing here needs a lock.
"""

from dataclasses import dataclass

import numpy as np

import streamer

FRAME_S = 0.02


@dataclass
class Floor:
    """What is known of one channel. `db`: the noise floor, in dB below full scale."""

    db: float | None = None


class NoiseFollower(streamer.StreamingModel):
    sample_rate = 16_000
    max_batch_size = 32  # channels that may be stepped in one call

    def __init__(self, rise_db_per_s: float = 3.0):
        """Create a model whose floor falls at once and rises slowly: speech is louder, but never for long."""
        self.rise_db_per_s = rise_db_per_s

    def open(self, info: streamer.StreamInfo):
        return Floor()

    def step(self, states, batch):
        return [(floor, self.follow(floor, item.samples)) for floor, item in zip(states, batch, strict=True)]

    def follow(self, floor, samples):
        frame = int(FRAME_S * self.sample_rate)
        whole = samples[: max(1, len(samples) // frame) * frame]
        frames = whole.reshape(-1, frame) if len(whole) >= frame else whole[None]
        levels = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-10)
        for level in levels.tolist():
            risen = level if floor.db is None else floor.db + self.rise_db_per_s * FRAME_S
            floor.db = min(level, risen)
        return {"level_db": round(float(levels.mean()), 1), "noise_db": round(floor.db, 1)}
