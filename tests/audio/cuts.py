"""Cutting one input in every way: each stage must answer the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Samples = NDArray[np.float32]

sizes = st.lists(st.integers(0, 700), min_size=1, max_size=20)
"""How long the pieces are; the last one takes what is left."""


def pieces(length: int, lengths: list[int]) -> Iterator[slice]:
    """Slices that cover `length` without gap or overlap."""
    at = 0
    for size in lengths:
        yield slice(at, at := min(length, at + size))
    yield slice(at, length)


def joined(push: Callable[[Samples], Samples], x: Samples, lengths: list[int]) -> Samples:
    """What a stage answers to x [channels, n] in pieces."""
    return np.concatenate([push(x[:, cut]) for cut in pieces(x.shape[1], lengths)], axis=1)
