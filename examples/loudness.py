"""The shortest model: a function from samples to anything JSON.

streamer serve examples/loudness.py:loudness
streamer client -i FILE -a ws://localhost:8080/api/v1/simple
"""

import numpy as np

import streamer


@streamer.model(sample_rate=16_000)
def loudness(samples):
    """How loud it is: root mean square and peak, in dB below full scale."""
    return {"rms_db": decibels(np.sqrt(np.mean(samples**2))), "peak_db": decibels(np.abs(samples).max())}


def decibels(level):
    return round(20 * np.log10(max(float(level), 1e-5)), 1)
