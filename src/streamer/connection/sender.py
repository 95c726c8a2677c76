"""The way of events to the client: encoded, written at once if that needs no waiting, queued otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from streamer.clock import Clock
from streamer.connection.outbox import Outbox, OutboxBounds, is_replaceable, is_result
from streamer.connection.transport import Transport
from streamer.protocols.codec import Codec, Reply
from streamer.session.events import AudioChunk, Event
from streamer.telemetry.observer import SessionObserver

FrameT = TypeVar("FrameT")


class Sender(Generic[FrameT]):
    """Sends the events of one connection, and the replies of its codec. `write` must run in a task."""

    def __init__(
        self,
        transport: Transport[FrameT],
        codec: Codec[FrameT],
        bounds: OutboxBounds,
        measure: Callable[[FrameT], int],
        clock: Clock,
        observer: SessionObserver,
    ) -> None:
        """Create a sender. `measure`: returns the bytes of a queued frame."""
        self._transport = transport
        self._codec = codec
        self._frame_bytes = measure
        self._clock = clock
        self.outbox: Outbox[FrameT] = Outbox(bounds)
        self.observer = observer
        self.audio_sent = 0
        """Bytes of audio out that the transport has taken since `take_audio_sent`."""

    def emit(self, event: Event, now: float) -> bool:
        """Send an event; return False if the client reads too slowly."""
        self.observer.on_event(event, now)
        frame = self._codec.encode(event)
        if frame is None or self.outbox.is_closed:
            return True
        result = event if is_result(event) else None
        if type(frame) is not list:
            return self._put(frame, is_replaceable(event), result, now)  # type: ignore[arg-type]
        last = len(frame) - 1
        return all(self.reply(reply, now, result if at == last else None) for at, reply in enumerate(frame))

    def reply(self, reply: Reply[FrameT], now: float, result: Event | None = None) -> bool:
        """Send a frame of the codec's own; return False if the client reads too slowly."""
        return self.outbox.is_closed or self._put(reply.frame, reply.is_replaceable, result, now)

    def take_audio_sent(self) -> int:
        """Return `audio_sent`, and count from 0 again."""
        size, self.audio_sent = self.audio_sent, 0
        return size

    async def write(self, on_next: Callable[[], None], on_audio: Callable[[], None]) -> None:
        """Write the queue to its end, then close.

        `on_next` is called before each frame, `on_audio` after audio that the transport has taken.
        """
        outbox, send = self.outbox, self._transport.send
        try:
            while (entry := await outbox.next(self._clock.now)) is not None:
                on_next()
                await send(entry.frame)
                if entry.result is not None:
                    self._on_written(entry.result)
                    if self.audio_sent:
                        on_audio()
            await self._transport.close(outbox.close_code, outbox.close_code.value if outbox.close_code else "")
        except ConnectionError:
            self._transport.abort()  # the peer has disconnected, which the reader notices

    def _put(self, frame: FrameT, is_replaceable: bool, result: Event | None, now: float) -> bool:
        outbox = self.outbox
        if outbox.is_idle and self._transport.send_now(frame):
            if result is not None:
                self._on_written(result)
            return True
        dropped = outbox.dropped
        size = 0 if type(result) is AudioChunk else self._frame_bytes(frame)  # the session bounds audio by its credit
        fits = outbox.put(frame, size, is_replaceable=is_replaceable, result=result)
        if outbox.dropped > dropped:
            self.observer.on_frames_dropped(outbox.dropped - dropped, now)
        return fits

    def _on_written(self, result: Event) -> None:
        """Note that the transport has taken a result or audio."""
        self.observer.on_result_written(result, self._clock.now())
        if type(result) is AudioChunk:
            self.audio_sent += len(result.data)
