"""What a segmenter is: it gets a channel's samples and says which ranges of them the model should answer for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.audio.coding import Kept, Samples
from streamer.session.actions import JobKind
from streamer.session.events import SpeechEnded, SpeechStarted

SPEECH_RATE = 16_000
"""Hz that the speech scorer takes."""
WINDOW = 512
"""Samples of one scored window: 32 ms."""
MAX_WINDOWS = 32
"""Windows in one request at most, so that a file cannot starve the streams beside it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The model should answer for samples [start, end) of the channel, at the model's rate."""

    kind: JobKind
    segment_id: int
    start: int
    end: int


Fact = SpeechStarted | SpeechEnded


class Segmenter(ABC):
    """One channel's audio, cut. `simple` and `segmented` are two of these on one path.

    Positions count samples at the model's rate from the start of the stream.
    """

    @property
    @abstractmethod
    def kept_from(self) -> int:
        """The first sample that a later result may still cover."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of audio that are kept."""

    @property
    @abstractmethod
    def settled(self) -> bool:
        """After the last of a boundary: everything before the boundary has been handed out."""

    @property
    @abstractmethod
    def asks(self) -> bool:
        """Whether `next_wanted` or `interim` may have something."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Samples that have been pushed and could be looked at or handed out, were the model or the scorer free."""

    @property
    @abstractmethod
    def speaking(self) -> bool:
        """Whether a stall should end something."""

    @abstractmethod
    def push(self, model: Kept, speech: Samples, *, last: bool) -> Samples | None:
        """Take audio of this channel, at the model's rate and the same at SPEECH_RATE; answers with what is to be
        scored now, k * WINDOW samples, or None. Encoded audio comes in whole windows.

        `last`: a boundary is here, all audio before it has been pushed, exact to the sample.
        """

    @abstractmethod
    def unseal(self) -> None:
        """The boundary has been dealt with, audio goes on."""

    @abstractmethod
    def scored(self, probabilities: Sequence[float]) -> Sequence[Fact]:
        """The scores of what `push` gave last."""

    @abstractmethod
    def finish(self) -> list[Fact]:
        """After the last of a boundary, with everything scored: what the boundary ends."""

    @property
    @abstractmethod
    def next_length(self) -> int | None:
        """Samples of the next range that the model should answer for, or None if there is none."""

    @abstractmethod
    def next_wanted(self) -> Wanted | None:
        """Return the next range that the model should answer for, if there is one."""

    @abstractmethod
    def interim(self) -> Wanted | None:
        """The interim that is due, if one is; asked only while none is outstanding."""

    @abstractmethod
    def samples(self, start: int, end: int) -> NDArray[np.float32]:
        """Audio that was wanted; read-only."""
