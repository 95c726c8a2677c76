"""RNNoise: suppresses noise in speech, live. The extra `streamer-audio[rnnoise]` has the weights."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import ModelLoadError, install_command
from streamer.models.contract import AudioOut, AudioSegment, StreamInfo, StreamingModel

FRAME = 480
"""Samples of one frame of the network: 10 ms at 48 kHz."""
_SCALE = np.float32(32_768.0)
_LIBRARIES = {"darwin": "librnnoise.dylib", "win32": "rnnoise.dll"}


class Denoiser:
    """State of one channel. Audio comes out 30 ms late: 10 to collect a frame, 20 in the network (measured)."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.handle: int | None = library.rnnoise_create(None)
        self._input: NDArray[np.float32] = np.empty(0, np.float32)
        self._ready: NDArray[np.float32] = np.zeros(FRAME, np.float32)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take samples [n] at 48 kHz; return as many."""
        pending: NDArray[np.float32] = np.concatenate((self._input, samples * _SCALE))
        whole = len(pending) // FRAME * FRAME
        address = pending.ctypes.data
        for at in range(0, whole, FRAME):  # in place
            frame = address + at * pending.itemsize
            self._library.rnnoise_process_frame(self.handle, frame, frame)
        ready: NDArray[np.float32] = np.concatenate((self._ready, pending[:whole] / _SCALE))
        self._input, self._ready = pending[whole:], ready[len(samples) :]
        return ready[: len(samples)]

    def close(self) -> None:
        """Free the state. May be called twice."""
        if self.handle is not None:
            self._library.rnnoise_destroy(self.handle)
            self.handle = None


class RNNoise(StreamingModel[Denoiser]):
    """Noise suppression (Valin, 2018). Runs in a process: each frame of a thread would wait for the GIL."""

    name = "rnnoise"
    sample_rate = 48_000
    output_sample_rate = 48_000
    latency_ms = 30.0
    executor = "process"
    max_batch_size = 32
    max_batch_wait_ms = 0.0

    _library: ctypes.CDLL

    def load(self) -> None:
        """Load the library. Raises ModelLoadError if the extra is not installed."""
        self._library = library = ctypes.CDLL(str(_library_path()))
        library.rnnoise_create.argtypes = [ctypes.c_void_p]
        library.rnnoise_create.restype = ctypes.c_void_p
        library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
        library.rnnoise_process_frame.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
        library.rnnoise_process_frame.restype = ctypes.c_float
        if library.rnnoise_get_frame_size() != FRAME:
            raise ModelLoadError(f"rnnoise: expected frames of {FRAME} samples")

    def open(self, info: StreamInfo) -> Denoiser:
        return Denoiser(self._library)

    def step(self, states: Sequence[Denoiser], batch: Sequence[AudioSegment]) -> Sequence[tuple[Denoiser, Any]]:
        return [
            (state, AudioOut(state.push(item.samples), self.sample_rate))
            for state, item in zip(states, batch, strict=True)
        ]

    def close(self, state: Denoiser) -> None:
        state.close()


def _library_path() -> Path:
    """Return the path of the library. The package itself is not imported: it would import matplotlib."""
    found = importlib.util.find_spec("pyrnnoise")
    if found is None or not found.submodule_search_locations:
        raise ModelLoadError(f"the model rnnoise needs the extra: {install_command('rnnoise')}")
    return Path(found.submodule_search_locations[0]) / _LIBRARIES.get(sys.platform, "librnnoise.so")
