"""The segmenter of `simple`: all audio goes to the model, in contiguous pieces without gap or overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.audio.buffer import MAX_RAW_BYTES, buffer_for
from streamer.audio.deferred_decoder import AudioSamples, DeferredDecoder, StoredAudio
from streamer.session.actions import JobKind
from streamer.session.events import EndReason
from streamer.session.segmenter import AudioRange, Segmenter, SegmenterEvent
from streamer.vad.settings import VadConfig


class ChunkSegmenter(Segmenter):
    """Segmenter of one channel in `simple` mode.

    `chunk`: pieces of exactly this number of samples; the last one before a barrier may be shorter. None: adaptive, all
    pending audio (at least `min_samples`, at most `max_samples` samples) is one piece whenever a result may be
    requested, so that a slow model gets fewer, longer calls instead of a growing queue. `capacity`: maximum pending
    samples. `coding`: encoding of the stored audio; None for decoded. `max_raw_bytes`: see `ResampledBuffer`.
    `overlap`: samples that are kept from each piece for the next one.
    """

    def __init__(
        self,
        chunk: int | None,
        min_samples: int,
        max_samples: int,
        capacity: int,
        coding: DeferredDecoder | None = None,
        max_raw_bytes: int = MAX_RAW_BYTES,
        overlap: int = 0,
    ) -> None:
        self._chunk = chunk
        self._min_samples = min_samples
        self._max_samples = max_samples
        self._buffer = buffer_for(coding, capacity, max_raw_bytes)
        self._overlap = overlap
        self._next_start = 0
        self._segment = 0
        self._at_barrier = False

    @property
    def needed_from(self) -> int:
        return self._next_start

    @property
    def nbytes(self) -> int:
        return self._buffer.nbytes

    @property
    def is_drained(self) -> bool:
        return not self._uncut_samples

    @property
    def has_requests(self) -> bool:
        return True

    @property
    def next_length(self) -> int | None:
        return self._next_length() or None

    @property
    def is_speaking(self) -> bool:
        return False

    @property
    def pending_samples(self) -> int:
        # Audio that is too short for a piece waits for the client. It must not count as backlog, which could pause
        # reading from that client.
        return self._uncut_samples if self._next_length() else 0

    @property
    def _uncut_samples(self) -> int:
        return self._buffer.end - self._next_start

    def push(self, model: StoredAudio, speech: AudioSamples, *, last: bool) -> AudioSamples | None:
        self._buffer.append(model)
        self._at_barrier = last
        if last:
            self._buffer.seal()
        return None

    def resume(self) -> None:
        self._at_barrier = False

    def on_scores(self, probabilities: Sequence[float]) -> Sequence[SegmenterEvent]:
        raise AssertionError("nothing is scored in simple mode")

    def finish(self, reason: EndReason) -> list[SegmenterEvent]:
        return []

    @property
    def position(self) -> int:
        return self._next_start

    def configure(self, config: VadConfig, interim_interval_ms: int | None) -> None:
        """Change nothing: pieces depend on neither."""

    def next_range(self) -> AudioRange | None:
        length = self._next_length()
        if not length:
            return None
        self._segment += 1
        self._next_start += length
        return AudioRange(JobKind.PIECE, self._segment, self._next_start - length, self._next_start)

    def due_interim(self) -> AudioRange | None:
        return None

    def samples(self, start: int, end: int) -> NDArray[np.float32]:
        piece = self._buffer.slice(start, end)
        self._buffer.forget(end - self._overlap)
        return piece

    def _next_length(self) -> int:
        pending = self._uncut_samples
        if self._chunk:
            whole = pending >= self._chunk
            return self._chunk if whole else pending * self._at_barrier
        if pending >= self._min_samples or self._at_barrier:
            return min(pending, self._max_samples)
        return 0
