"""Codec of the Realtime API, for transcription: GA and beta shapes, turns by the server or by the client."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from streamer.errors import ErrorCode, StreamerError
from streamer.protocols.codec import Reply
from streamer.protocols.openai.faults import INVALID_REQUEST, RequestFault
from streamer.protocols.openai.file_request import NO_FLOOR, TurnFloor
from streamer.protocols.openai.realtime_events import EventWriter
from streamer.protocols.openai.realtime_items import RealtimeItem
from streamer.protocols.openai.realtime_reading import event_id_of, read_event, refuse_event
from streamer.protocols.openai.realtime_session import PROGRESS_MS, RealtimeSettings
from streamer.protocols.openai.realtime_wire import (
    AppendAudio,
    BetaSessionUpdate,
    ClearAudio,
    CommitAudio,
    SessionUpdate,
)
from streamer.protocols.transcript import transcript_of
from streamer.session.events import ErrorEvent, Event, Finished, Flushed, Progress, Segment, SpeechEnded, SpeechStarted
from streamer.session.messages import Audio, Flush, KeepAlive, Message
from streamer.session.settings import Limits

Step = Message | Reply[str | bytes]
_NOT_A_TRANSCRIPT = "the model's results are no transcripts: expected an object with a text, or a string"


class _Mark(Enum):
    """Meaning of a flush of the codec's own."""

    COMMIT = "commit"
    """The oldest item of the client is complete."""
    TURN = "turn"
    """A commit while the server detects turns."""
    CLEAR = "clear"
    """The oldest item of the client is to be dropped."""
    CLEAR_TURN = "clear turn"
    """A clear while the server detects turns."""
    TO_CLIENT = "to client"
    """The client makes the turns from here on."""
    TO_SERVER = "to server"
    """The server makes the turns from here on."""


@dataclass(slots=True)
class _Marker:
    """A flush of the codec's own. `position`: of the audio in front of it, at the model's rate."""

    mark: _Mark
    position: int
    turns: int
    """Turns of the server that were committed when it was sent."""
    has_turn: bool = False
    """Whether a turn of the server ended at it, or between its sending and it."""


class Realtime:
    """Codec of one connection.

    Each commit, each clear and each change of the rules for turns is a flush. Results reach the codec in the order of
    the audio, and a `Flushed` stands between those before it and those after it. Starts and ends of speech do not wait
    for results; for them the progress of speech detection tells whether they come after a flush.
    """

    name: ClassVar[str] = "openai"
    joins_audio: ClassVar[bool] = False
    ends_with_connection: ClassVar[bool] = True  # the protocol has no message for the end

    def __init__(
        self,
        id: str,
        sample_rate: int,
        limits: Limits,
        *,
        settings: RealtimeSettings,
        expires_at: int,
        floor: TurnFloor = NO_FLOOR,
        is_beta: bool = False,
    ) -> None:
        """Create a codec.

        `id`: of the connection. `sample_rate` in Hz: of the model. `settings`: the first ones. `expires_at`: seconds
        since 1970. `floor`: of the rules for turns. `is_beta`: the client speaks the beta from the beginning.
        """
        self._limits = limits
        self._settings = settings.raised(floor)
        self._floor = floor
        self._events = EventWriter(id, sample_rate, expires_at, is_beta=is_beta)
        self._model_rate = sample_rate
        self._tolerance = 2 * PROGRESS_MS * sample_rate // 1000
        self._is_started = False
        self._is_by_client = False
        """Whether speech that is detected belongs to turns of the client; `settings` say so for audio that comes."""
        self._progress = 0
        """Position up to which speech was detected, at the model's rate."""
        self._ahead: deque[_Marker] = deque()
        """Flushes that speech detection has not reached."""
        self._markers: deque[_Marker] = deque()
        """Flushes that are not answered."""
        self._received = 0
        """Bytes of audio."""
        self._committed = 0
        """Bytes of audio that belong to an item, or were cleared."""
        self._turns: deque[RealtimeItem | None] = deque()
        """The turn of the server that each segment without its final is; None for one of the client."""
        self._open_turn: RealtimeItem | None = None
        self._turns_committed = 0
        self._clearing = 0
        self._items: deque[RealtimeItem] = deque([self._events.new_item()])
        """Turns of the client whose results may come; the last one is not committed."""

    def begin(self) -> Sequence[Step]:
        return [self._events.created(self._settings)]

    # Client -------------------------------------------------------------------------------------

    def decode(self, frame: str | bytes) -> Message | list[Step]:
        event = read_event(frame)
        if isinstance(event, AppendAudio):
            return self._append(event)
        most = self._limits.max_control_bytes
        if len(frame) > most and not isinstance(event, RequestFault):
            event = refuse_event(
                f"expected at most {most} characters in an event without audio, got {len(frame)}", None
            )
        match event:
            case SessionUpdate() | BetaSessionUpdate():
                steps = self._update(event)
            case CommitAudio():
                steps = self._commit(event)
            case ClearAudio():
                steps = self._clear()
            case RequestFault():
                steps = [self._events.error(event, event_id_of(frame))]
        return [*steps, KeepAlive()]  # the work of any event but audio is charged

    def _append(self, event: AppendAudio) -> Message | list[Step]:
        if not event.audio:
            return KeepAlive()
        self._received += len(event.audio)
        if self._is_started:
            return Audio(event.audio)
        self._is_started = True
        self._is_by_client = self._settings.turn_detection is None
        return [self._settings.start(), Audio(event.audio)]

    def _update(self, event: SessionUpdate | BetaSessionUpdate) -> list[Step]:
        old = self._settings
        try:
            new = old.updated(event.session, self._limits, self._floor)
        except StreamerError as error:
            return [self._events.error(RequestFault.of(error.code, error.message, error.field), event.event_id)]
        if self._is_started and (new.format.type, new.rate) != (old.format.type, old.rate):
            text = "the format cannot change after the first audio: open another session"
            fault = refuse_event(text, "session.audio.input.format")
            return [self._events.error(fault, event.event_id)]
        self._settings = new
        reply = self._events.updated(new, is_beta=isinstance(event, BetaSessionUpdate))
        steps: list[Step] = []
        if self._is_started:
            if (new.turn_detection is None) != (old.turn_detection is None):
                steps.append(self._hand_over(to_client=new.turn_detection is None))
            if (new.vad, new.options) != (old.vad, old.options):
                steps.append(new.configure())
        return [*steps, reply]

    def _hand_over(self, *, to_client: bool) -> Flush:
        """Return the flush at which the turns become the client's, or the server's."""
        if not to_client:
            self._items.append(self._events.new_item())
        return self._mark(_Mark.TO_CLIENT if to_client else _Mark.TO_SERVER)

    def _commit(self, event: CommitAudio) -> list[Step]:
        if self._received == self._committed:
            text = "the audio buffer is empty: expected input_audio_buffer.append before a commit"
            fault = RequestFault(text, INVALID_REQUEST, "input_audio_buffer_commit_empty")
            return [self._events.error(fault, event.event_id)]
        self._committed = self._received
        if self._settings.turn_detection is not None:
            return [self._mark(_Mark.TURN)]
        replies = self._events.committed(self._items[-1])
        self._items.append(self._events.new_item())
        return [*replies, self._mark(_Mark.COMMIT)]

    def _clear(self) -> list[Step]:
        reply = self._events.cleared()
        self._committed = self._received
        if not self._is_started:
            return [reply]
        if self._settings.turn_detection is not None:
            self._clearing += 1
            return [reply, self._mark(_Mark.CLEAR_TURN)]
        self._items[-1].is_dropped = True
        self._items.append(self._events.new_item())
        return [reply, self._mark(_Mark.CLEAR)]

    def _mark(self, mark: _Mark) -> Flush:
        marker = _Marker(mark, self._position_of(self._received), self._turns_committed)
        self._markers.append(marker)
        self._ahead.append(marker)
        self._pass_markers()
        return Flush(mark.value)

    # Server -------------------------------------------------------------------------------------

    def encode(self, event: Event) -> list[Reply[str | bytes]] | None:
        match event:
            case Segment():
                frames = self._segment(event)
            case SpeechStarted():
                frames = self._speech_started(event)
            case SpeechEnded():
                frames = self._speech_ended(event)
            case Flushed():
                frames = self._flushed()
            case ErrorEvent():
                frames = self._failed(event)
            case Finished():
                frames = self._finished()
            case Progress(position=position):
                self._progress = position
                if self._ahead:
                    self._pass_markers()
                return None
            case _:
                return None
        return frames or None

    def _speech_started(self, event: SpeechStarted) -> list[Reply[str | bytes]]:
        if self._is_by_client:
            self._turns.append(None)
            return []
        item = self._open_turn = self._events.new_item()
        item.is_dropped = self._clearing > 0
        self._turns.append(item)
        return [] if item.is_dropped else [self._events.speech_started(item, event.position)]

    def _speech_ended(self, event: SpeechEnded) -> list[Reply[str | bytes]]:
        item, self._open_turn = self._open_turn, None
        if item is None:
            return []
        was_dropped = item.is_dropped
        item.is_dropped = was_dropped or item.is_cleared or self._clearing > 0
        frames = [] if was_dropped else [self._events.speech_stopped(item, event.position)]
        if not item.is_dropped:
            self._turns_committed += 1
            self._committed = max(self._committed, min(self._received, self._bytes_until(event.position)))
            frames += self._events.committed(item)
        return frames

    def _segment(self, event: Segment) -> list[Reply[str | bytes]]:
        item, is_turn = self._item_of_result(is_last=event.is_final)
        if item.is_dropped:
            return []
        transcript = transcript_of(event.output)
        if transcript is None:
            if not event.is_final:
                return []
            return self._lose(item, RequestFault.of(ErrorCode.MODEL_ERROR, _NOT_A_TRANSCRIPT), is_turn=is_turn)
        if not event.is_final:
            return self._events.delta(item, item.text.interim(transcript))
        frames = self._events.delta(item, item.add(transcript, event.end - event.start))
        return [*frames, *self._complete(item)] if is_turn else frames

    def _failed(self, event: ErrorEvent) -> list[Reply[str | bytes]]:
        """Report an error: of one turn if its result is lost, else of the session."""
        fault = RequestFault.of(event.code, event.message)
        if event.fatal or event.start is None:
            return [self._events.error(fault, None)]
        item, is_turn = self._item_of_result(is_last=True)
        return [] if item.is_dropped else self._lose(item, fault, is_turn=is_turn)

    def _lose(self, item: RealtimeItem, fault: RequestFault, *, is_turn: bool) -> list[Reply[str | bytes]]:
        item.fault = item.fault or fault
        return self._complete(item) if is_turn else []

    def _item_of_result(self, *, is_last: bool) -> tuple[RealtimeItem, bool]:
        """Return the item that a result belongs to, and whether it is a turn of the server.

        `is_last`: it is the segment's final, or the error in its place.
        """
        turn = (self._turns.popleft() if is_last else self._turns[0]) if self._turns else None
        return (self._items[0], False) if turn is None else (turn, True)

    def _pass_markers(self) -> None:
        """Let the flushes that speech detection has reached divide starts of speech from those that follow."""
        while self._ahead and self._progress + self._tolerance >= self._ahead[0].position:
            self._pass(self._ahead.popleft())

    def _pass(self, marker: _Marker) -> None:
        match marker.mark:
            case _Mark.CLEAR_TURN:
                self._clearing -= 1
                if self._open_turn is not None:
                    self._open_turn.is_cleared = True
            case _Mark.TURN:
                is_open = self._open_turn is not None and not self._open_turn.is_dropped
                marker.has_turn = is_open or self._turns_committed > marker.turns
            case _Mark.TO_CLIENT:
                self._is_by_client = True
            case _Mark.TO_SERVER:
                self._is_by_client = False
            case _:
                pass

    def _flushed(self) -> list[Reply[str | bytes]]:
        marker = self._markers.popleft()
        if self._ahead and self._ahead[0] is marker:
            self._pass(self._ahead.popleft())
        match marker.mark:
            case _Mark.COMMIT:
                return self._complete(self._items.popleft())
            case _Mark.CLEAR:
                self._items.popleft()
            case _Mark.TO_SERVER:
                return self._commit_rest(self._items.popleft())
            case _Mark.TURN if not marker.has_turn:  # nobody spoke since the last turn
                item = self._events.new_item()
                return [*self._events.committed(item), *self._complete(item)]
            case _:
                pass
        return []

    def _finished(self) -> list[Reply[str | bytes]]:
        """End the stream, because the server shuts down: its close says so, and results of the client's turn remain."""
        return [frame for item in self._items for frame in self._commit_rest(item)]

    def _commit_rest(self, item: RealtimeItem) -> list[Reply[str | bytes]]:
        """Return the events by which a turn of the client is complete, if it was committed or anything was said."""
        if item.is_dropped or not (item.is_committed or item.has_result):
            return []
        return [*([] if item.is_committed else self._events.committed(item)), *self._complete(item)]

    def _complete(self, item: RealtimeItem) -> list[Reply[str | bytes]]:
        if item.fault is not None:
            return [self._events.failed(item, item.fault)]
        return [self._events.completed(item, self._settings)]

    def _position_of(self, size: int) -> int:
        """Return the position behind `size` bytes of audio, at the model's rate."""
        format_ = self._settings.audio_format
        return size // format_.frame_bytes * self._model_rate // format_.sample_rate

    def _bytes_until(self, position: int) -> int:
        """Return the bytes of audio up to a position at the model's rate."""
        format_ = self._settings.audio_format
        return position * format_.sample_rate // self._model_rate * format_.frame_bytes
