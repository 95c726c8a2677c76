"""Server events of the Realtime API on the wire."""

from __future__ import annotations

from typing import Any

import msgspec

from streamer.protocols.codec import Reply
from streamer.protocols.openai.faults import RequestFault, fault_data
from streamer.protocols.openai.file_answer import logprobs
from streamer.protocols.openai.realtime_items import RealtimeItem
from streamer.protocols.openai.realtime_session import LOGPROBS, RealtimeSettings

_BUFFER = "input_audio_buffer"
_TRANSCRIPTION = "conversation.item.input_audio_transcription"


class EventWriter:
    """Writes the events of one connection, and numbers them and its items.

    No frame may be left out for a client that reads slowly, because clients add up the deltas.
    """

    def __init__(self, id: str, sample_rate: int, expires_at: int, *, is_beta: bool) -> None:
        """Create a writer. `id`: of the connection. `sample_rate` in Hz: the unit of positions."""
        self._id = id.replace("-", "")
        self._sample_rate = sample_rate
        self._expires_at = expires_at
        self._is_beta = is_beta
        self._events = self._items = 0
        self._last_item: str | None = None

    def new_item(self) -> RealtimeItem:
        """Return an item with the next id."""
        self._items += 1
        return RealtimeItem(f"item_{self._id}_{self._items}")

    def created(self, settings: RealtimeSettings) -> Reply[str | bytes]:
        """Return the greeting."""
        kind = "transcription_session.created" if self._is_beta else "session.created"
        return self._event(kind, session=self._session(settings, is_beta=self._is_beta))

    def updated(self, settings: RealtimeSettings, *, is_beta: bool) -> Reply[str | bytes]:
        """Return the settings after a change. `is_beta`: the client asked in the words of the beta."""
        self._is_beta = self._is_beta or is_beta
        kind = "transcription_session.updated" if is_beta else "session.updated"
        return self._event(kind, session=self._session(settings, is_beta=is_beta))

    def cleared(self) -> Reply[str | bytes]:
        """Return the answer to a clear."""
        return self._event(f"{_BUFFER}.cleared")

    def speech_started(self, item: RealtimeItem, position: int) -> Reply[str | bytes]:
        """Return the beginning of a turn."""
        return self._event(f"{_BUFFER}.speech_started", item_id=item.id, audio_start_ms=self._ms(position))

    def speech_stopped(self, item: RealtimeItem, position: int) -> Reply[str | bytes]:
        """Return the end of a turn."""
        return self._event(f"{_BUFFER}.speech_stopped", item_id=item.id, audio_end_ms=self._ms(position))

    def committed(self, item: RealtimeItem) -> list[Reply[str | bytes]]:
        """Return the events of a turn that has become an item."""
        before, self._last_item = self._last_item, item.id
        item.is_committed = True
        content = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        kinds = ("created",) if self._is_beta else ("added", "done")
        return [
            self._event(f"{_BUFFER}.committed", item_id=item.id, previous_item_id=before),
            *(self._event(f"conversation.item.{kind}", previous_item_id=before, item=content) for kind in kinds),
        ]

    def delta(self, item: RealtimeItem, text: str) -> list[Reply[str | bytes]]:
        """Return the event of appended text; none without text."""
        return [self._event(f"{_TRANSCRIPTION}.delta", item_id=item.id, content_index=0, delta=text)] if text else []

    def completed(self, item: RealtimeItem, settings: RealtimeSettings) -> Reply[str | bytes]:
        """Return the transcript of an item."""
        more = {"logprobs": logprobs(item.words)} if LOGPROBS in settings.include else {}
        usage = {"type": "duration", "seconds": round(item.samples / self._sample_rate, 3)}
        return self._event(
            f"{_TRANSCRIPTION}.completed",
            item_id=item.id,
            content_index=0,
            transcript=item.transcript,
            usage=usage,
            **more,
        )

    def failed(self, item: RealtimeItem, fault: RequestFault) -> Reply[str | bytes]:
        """Return the error of an item whose transcript is lost."""
        return self._event(f"{_TRANSCRIPTION}.failed", item_id=item.id, content_index=0, error=fault)

    def error(self, fault: RequestFault, event_id: str | None) -> Reply[str | bytes]:
        """Return an error. `event_id`: of the client's event that caused it."""
        return self._event("error", error=fault_data(fault, event_id))

    def _session(self, settings: RealtimeSettings, *, is_beta: bool) -> dict[str, Any]:
        session = settings.shown_to_beta() if is_beta else settings.shown()
        return {"id": f"sess_{self._id}", "expires_at": self._expires_at, **session}

    def _ms(self, position: int) -> int:
        return round(position * 1000 / self._sample_rate)

    def _event(self, kind: str, **fields: Any) -> Reply[str | bytes]:
        self._events += 1
        event = {"type": kind, "event_id": f"event_{self._events}", **fields}
        return Reply(msgspec.json.encode(event).decode())
