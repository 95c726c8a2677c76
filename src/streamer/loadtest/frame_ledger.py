"""Accounting of every frame of one stream: answered once, lost, or answered twice. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamer.client.events import Error, Finished, Segment, Started

_ROUNDING_S = 2e-6
"""Precision of times on the wire in seconds."""
_STUB = "stub"


@dataclass(frozen=True, slots=True)
class LedgerBalance:
    """Frames at the client's rate.

    `failed`: results replaced by errors. `unfinished`: the stream did not end normally.
    """

    lost: int = 0
    doubled: int = 0
    failed: int = 0
    miscounted: int = 0
    unfinished: bool = False

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.miscounted or self.unfinished)


@dataclass(slots=True)
class FrameLedger:
    """Accounts for the frames of a stream with one channel.

    There are three sources, depending on the protocol version: the totals in v2's `finished`; on `simple`, pieces that
    must be contiguous and cover everything; and the stub's result, the number of samples that it received. `counts`:
    whether the model is known to be the stub (v2 tells).
    """

    rate: int
    contiguous: bool
    is_stub: bool = False
    _model_rate: int = 16_000
    _covered_s: float = 0.0
    _lost_s: float = 0.0
    _doubled_s: float = 0.0
    _failed: int = 0
    _failed_s: float = 0.0
    _miscounted: int = 0
    _finished: Finished | None = field(default=None)

    def on_started(self, event: Started) -> None:
        self.is_stub = event.model.name == _STUB
        self._model_rate = event.model.sample_rate

    def on_result(self, segment: Segment) -> None:
        """Process a final or a piece."""
        self._cover(segment.start_time, segment.end_time)
        if self.is_stub and isinstance(segment.output, dict) and isinstance(count := segment.output.get("count"), int):
            expected = round((segment.end_time - segment.start_time) * self._model_rate)
            self._miscounted += count != expected

    def on_error(self, error: Error) -> None:
        if error.start_time is None or error.end_time is None:
            return
        self._failed += 1
        self._failed_s += error.end_time - error.start_time
        self._cover(error.start_time, error.end_time)

    def on_finished(self, event: Finished) -> None:
        self._finished = event

    def balance(self, sent: int, *, ended_well: bool) -> LedgerBalance:
        """Return the balance. `sent`: frames sent. `ended_well`: the server closed normally."""
        lost_s = self._lost_s + (max(0.0, sent / self.rate - self._covered_s) if self.contiguous else 0.0)
        lost = self._frames(lost_s) if ended_well else 0
        if self._finished is not None:
            answered = self._finished.processed + self._frames(self._failed_s)
            lost = max(lost, sent - answered)
        return LedgerBalance(
            lost=lost,
            doubled=self._frames(self._doubled_s),
            failed=self._failed,
            miscounted=self._miscounted,
            unfinished=not ended_well,
        )

    def _cover(self, start_s: float, end_s: float) -> None:
        """Count a range. Results are in order: an overlap with the last one was answered twice, a gap never."""
        if start_s < self._covered_s - _ROUNDING_S:
            self._doubled_s += self._covered_s - start_s
        elif self.contiguous and start_s > self._covered_s + _ROUNDING_S:
            self._lost_s += start_s - self._covered_s
        self._covered_s = max(self._covered_s, end_s)

    def _frames(self, seconds: float) -> int:
        return round(seconds * self.rate)
