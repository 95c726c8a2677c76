"""Result of `streamer vad`, for its table, its JSON and its plot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamer.vad.endpointer import SpeechOffset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class ChannelSpeech:
    """Result of one detector in one channel: float32 [windows] of 32 ms, and segments in samples of the file.

    `index`: of the channel. `name`: label in a table or a picture; empty if there is only one result.
    """

    index: int
    detector: str
    name: str
    probabilities: NDArray[np.float32]
    segments: list[SpeechOffset]
