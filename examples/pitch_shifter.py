"""A live effect whose pieces run side by side: the voice is raised or lowered, and no seam is heard.

streamer serve examples/pitch_shifter.py:PitchShifter
streamer client -i FILE -a ws://localhost:8080/api/v2/simple -o shifted.wav

Each piece is shifted by itself, so the workers may take several pieces of a stream at once. When two pieces meet, their
grains do not fit: `overlap_ms` lets each piece begin with the end of the one before it, and the server fades from one
to the other. With overlap_ms = 0 there is a click every piece.
"""

import numpy as np

import streamer

GRAIN_S = 0.04


class PitchShifter(streamer.Model):
    sample_rate = output_sample_rate = 16_000
    overlap_ms = 40.0
    workers = 2

    def __init__(self, semitones: float = 4.0):
        """Create a model that shifts by `semitones`, up or down."""
        self.ratio = 2.0 ** (semitones / 12)

    def infer(self, batch):
        return [streamer.AudioOut(self.shift(item.samples), item.sample_rate) for item in batch]

    def shift(self, samples):
        """Return the samples [n] at another pitch: grains that are read faster or slower, and overlapped by half."""
        grain = int(GRAIN_S * self.sample_rate)
        hop = grain // 2
        around = np.arange(grain) - hop
        window = np.hanning(grain + 1)[:-1].astype(np.float32)
        shifted = np.zeros(len(samples) + 2 * grain, np.float32)
        places = np.arange(len(samples))
        for centre in range(0, len(samples) + hop, hop):
            read = np.interp(centre + around * self.ratio, places, samples, left=0.0, right=0.0)
            shifted[centre + hop : centre + hop + grain] += window * read.astype(np.float32)
        return shifted[grain : grain + len(samples)]
