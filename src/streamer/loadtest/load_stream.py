"""One stream of the load: sends on request, stores the times of sending, and computes latencies."""

from __future__ import annotations

import asyncio
import math
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from streamer.client.errors import ProtocolError
from streamer.client.events import AudioChunk, DataEvent, Error, Event, Finished, Segment, Started
from streamer.client.transport import LOST, ClientCodec, is_normal_end
from streamer.loadtest.audio_out import AudioOutRecorder, AudioOutTimes
from streamer.loadtest.endpointing import EndpointingModel
from streamer.loadtest.frame_ledger import FrameLedger, LedgerBalance
from streamer.loadtest.load_client import LoadConnection
from streamer.loadtest.workload import SendSchedule, Workload
from streamer.session.messages import Stop

REMEMBERED_S = 120.0
"""Seconds of stored times of each stream: a result that lags by more counts as lagging by this."""


@dataclass(slots=True)
class StreamTimings:
    """Pairs (time of sending the deciding audio, as time.monotonic(); seconds to the result).

    `finals`: seconds from that audio. `wholes`: from the utterance's last voiced audio, endpointing included.
    `interims`, and `pieces` of `simple`: from the last audio that they cover.
    """

    finals: array[float] = field(default_factory=lambda: array("d"))
    wholes: array[float] = field(default_factory=lambda: array("d"))
    interims: array[float] = field(default_factory=lambda: array("d"))
    pieces: array[float] = field(default_factory=lambda: array("d"))


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """Record of one stream. `early`: finals that arrived before the audio expected to decide them."""

    index: int
    connect_s: float
    first_s: float | None
    begun: float
    ended_at: float
    sent: int
    timings: StreamTimings
    balance: LedgerBalance
    early: int
    cut: int
    errors: Counter[str]
    audio_out: AudioOutTimes
    ending: str
    """Empty after a normal end; otherwise the reason."""


class LoadStream:
    """Listens to its line. Times are time.monotonic(); its methods never wait."""

    def __init__(
        self,
        index: int,
        workload: Workload,
        schedule: SendSchedule,
        frames: Sequence[Any],
        dialect: ClientCodec[Any],
        endpointing: EndpointingModel,
        *,
        simple: bool,
        counts: bool,
    ) -> None:
        self.index = index
        self.connect_s = 0.0
        self.connection: LoadConnection | None = None
        self.dues_s: Iterator[float] = schedule.dues_s()
        self.close_event = asyncio.Event()
        self.first_s: float | None = None
        self.results = 0
        self._workload = workload
        self._frames = frames
        self._next_frame = schedule.offset
        self._dialect = dialect
        self._endpointing = endpointing
        self._simple = simple
        self._ledger = FrameLedger(workload.format.sample_rate, contiguous=simple, is_stub=counts)
        self._times = array("d", bytes(8 * (min(schedule.count, int(REMEMBERED_S / workload.chunk_s)) + 1)))
        self._sent = 0
        self._first_sent_at = self._last = 0.0
        self._timings = StreamTimings()
        self._errors: Counter[str] = Counter()
        self._early = self._cut = 0
        self._audio_out = AudioOutRecorder(workload.format, self._sent_at)
        self._stopped = False
        self._ending = "no answer to the stop"

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended."""
        return self.close_event.is_set()

    def send(self) -> float:
        """Send the next message; return the time."""
        assert self.connection is not None
        self.connection.send(self._frames[self._next_frame])
        now = monotonic()
        self._next_frame += 1
        if self._next_frame == len(self._frames):
            self._next_frame = 0
        self._times[self._sent % len(self._times)] = self._last = now
        if not self._sent:
            self._first_sent_at = now
        self._sent += 1
        return now

    def stop(self) -> None:
        assert self.connection is not None
        self._stopped = True
        self.connection.send_control(self._dialect.encode(Stop(keep_open=False)))

    def on_frame(self, frame: Any, now: float) -> None:
        try:
            event = self._dialect.decode(frame)
        except ProtocolError as error:
            self._errors[error.message[:100]] += 1
            return
        self._on_event(event, now)

    def on_close(self, code: int, reason: str, now: float) -> None:
        self.close_event.set()
        if self._stopped and is_normal_end(code, stopped=True):
            self._ending = ""
        else:
            early = "" if self._stopped else "before the stop: "
            self._ending = f"{early}{'connection lost' if code == LOST else f'closed with {code}'} {reason}".strip()

    def record(self) -> StreamRecord:
        return StreamRecord(
            index=self.index,
            connect_s=self.connect_s,
            first_s=self.first_s,
            begun=self._first_sent_at,
            ended_at=self._last,
            sent=self._sent * self._workload.chunk_frames,
            timings=self._timings,
            balance=self._ledger.balance(self._sent * self._workload.chunk_frames, ended_well=not self._ending),
            early=self._early,
            cut=self._cut,
            errors=self._errors,
            ending=self._ending,
            audio_out=self._audio_out.times,
        )

    def _on_event(self, event: Event | None, now: float) -> None:
        match event:
            case Segment():
                self._on_result(event, now)
            case AudioChunk():
                self._audio_out.on_chunk(event, now)
            case DataEvent():
                self._note_first(now)
            case Started():
                self._ledger.on_started(event)
            case Finished():
                self._ledger.on_finished(event)
            case Error(code=code):
                self._errors[code] += 1
                self._ledger.on_error(event)

    def _note_first(self, now: float) -> None:
        self.results += 1
        if self.first_s is None:
            self.first_s = now - self._first_sent_at

    def _on_result(self, segment: Segment, now: float) -> None:
        self._note_first(now)
        at = self._sent_at(segment.end_time)
        if not segment.is_final:
            _note(self._timings.interims, at, now)
            return
        self._ledger.on_result(segment)
        if self._simple:
            _note(self._timings.pieces, at, now)
            return
        decided_s = self._endpointing.decision_s(segment.start_time, segment.end_time)
        if decided_s is None:
            self._cut += 1
            return
        decided = self._sent_at(decided_s)
        if decided is not None and at is not None:
            _note(self._timings.finals, decided, now)
            self._timings.wholes.extend((decided, now - at))
        elif not self._stopped:
            self._early += 1

    def _sent_at(self, position_s: float) -> float | None:
        """Return when the audio up to a position of the stream was sent; None if it was not sent yet."""
        frames = math.ceil(position_s * self._workload.format.sample_rate - 0.1)
        chunk = max(0, (frames - 1) // self._workload.chunk_frames)
        if chunk >= self._sent:
            return None
        if self._sent - chunk > len(self._times):  # forgotten: the lag is at least this
            return self._last - REMEMBERED_S
        return self._times[chunk % len(self._times)]


def _note(into: array[float], at: float | None, now: float) -> None:
    if at is not None:
        into.extend((at, now - at))
