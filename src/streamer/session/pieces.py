"""The segmenter of `simple`: all audio goes to the model, in contiguous pieces without gap or overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.audio.buffer import MAX_RAW_BYTES, buffer_for
from streamer.audio.coding import Coding, Kept, Samples
from streamer.session.actions import JobKind
from streamer.session.events import EndReason
from streamer.session.segmenting import Fact, Segmenter, Wanted
from streamer.vad.settings import VadConfig


class PieceSegmenter(Segmenter):
    """Segmenter of one channel in `simple` mode.

    `chunk`: pieces of exactly this number of samples; the last one before a barrier may be shorter. None: adaptive, all
    pending audio (at least `shortest`, at most `longest` samples) is one piece whenever a result may be requested, so
    that a slow model gets fewer, longer calls instead of a growing queue. `capacity`: maximum pending samples.
    `coding`: encoding of the stored audio; None for decoded. `max_raw_bytes`: see `ResampledBuffer`. `overlap`: samples
    that are kept from each piece for the next one.
    """

    def __init__(
        self,
        chunk: int | None,
        shortest: int,
        longest: int,
        capacity: int,
        coding: Coding | None = None,
        max_raw_bytes: int = MAX_RAW_BYTES,
        overlap: int = 0,
    ) -> None:
        self._chunk = chunk
        self._shortest = shortest
        self._longest = longest
        self._buffer = buffer_for(coding, capacity, max_raw_bytes)
        self._overlap = overlap
        self._cut = 0
        self._segment = 0
        self._sealed = False

    @property
    def kept_from(self) -> int:
        return self._cut

    @property
    def nbytes(self) -> int:
        return self._buffer.nbytes

    @property
    def settled(self) -> bool:
        return not self._uncut

    @property
    def asks(self) -> bool:
        return True

    @property
    def next_length(self) -> int | None:
        return self._next_length() or None

    @property
    def speaking(self) -> bool:
        return False

    @property
    def waiting(self) -> int:
        # Audio that is too short for a piece waits for the client. It must not count as backlog, which could pause
        # reading from that client.
        return self._uncut if self._next_length() else 0

    @property
    def _uncut(self) -> int:
        return self._buffer.end - self._cut

    def push(self, model: Kept, speech: Samples, *, last: bool) -> Samples | None:
        self._buffer.append(model)
        self._sealed = last
        if last:
            self._buffer.seal()
        return None

    def unseal(self) -> None:
        self._sealed = False

    def scored(self, probabilities: Sequence[float]) -> Sequence[Fact]:
        raise AssertionError("nothing is scored in simple mode")

    def finish(self, reason: EndReason) -> list[Fact]:
        return []

    @property
    def position(self) -> int:
        return self._cut

    def configure(self, config: VadConfig, interim_interval_ms: int | None) -> None:
        """Change nothing: pieces depend on neither."""

    def next_wanted(self) -> Wanted | None:
        length = self._next_length()
        if not length:
            return None
        self._segment += 1
        self._cut += length
        return Wanted(JobKind.PIECE, self._segment, self._cut - length, self._cut)

    def interim(self) -> Wanted | None:
        return None

    def samples(self, start: int, end: int) -> NDArray[np.float32]:
        piece = self._buffer.slice(start, end)
        self._buffer.forget(end - self._overlap)
        return piece

    def _next_length(self) -> int:
        pending = self._uncut
        if self._chunk:
            whole = pending >= self._chunk
            return self._chunk if whole else pending * self._sealed
        if pending >= self._shortest or self._sealed:
            return min(pending, self._longest)
        return 0
