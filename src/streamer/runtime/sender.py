"""The way of events to the client: encoded, written at once if that needs no waiting, queued otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from streamer.clock import Clock
from streamer.protocols.codec import Codec, Reply
from streamer.runtime.outbox import Outbox, OutboxBounds, is_replaceable, is_result
from streamer.runtime.transport import Transport
from streamer.session.events import Event
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
        self._measure = measure
        self._clock = clock
        self.outbox: Outbox[FrameT] = Outbox(bounds)
        self.observer = observer

    def emit(self, event: Event, now: float) -> bool:
        """Send an event; return False if the client reads too slowly."""
        self.observer.emitted(event, now)
        frame = self._codec.encode(event)
        if frame is None or self.outbox.closed:
            return True
        result = event if is_result(event) else None
        if type(frame) is not list:
            return self._put(frame, is_replaceable(event), result, now)  # type: ignore[arg-type]
        last = len(frame) - 1
        return all(self.reply(reply, now, result if at == last else None) for at, reply in enumerate(frame))

    def reply(self, reply: Reply[FrameT], now: float, result: Event | None = None) -> bool:
        """Send a frame of the codec's own; return False if the client reads too slowly."""
        return self.outbox.closed or self._put(reply.frame, reply.is_replaceable, result, now)

    async def write(self, on_next: Callable[[], None]) -> None:
        """Write the queue to its end, then close. `on_next` is called before each frame."""
        outbox, send = self.outbox, self._transport.send
        try:
            while (entry := await outbox.next(self._clock.now)) is not None:
                on_next()
                await send(entry.frame)
                if entry.result is not None:
                    self.observer.written(entry.result, self._clock.now())
            await self._transport.close(outbox.code, outbox.code.value if outbox.code else "")
        except ConnectionError:
            self._transport.abort()  # the peer has disconnected, which the reader notices

    def _put(self, frame: FrameT, is_replaceable: bool, result: Event | None, now: float) -> bool:
        outbox = self.outbox
        if outbox.idle and self._transport.send_now(frame):
            if result is not None:
                self.observer.written(result, self._clock.now())
            return True
        dropped = outbox.dropped
        fits = outbox.put(frame, self._measure(frame), is_replaceable=is_replaceable, result=result)
        if outbox.dropped > dropped:
            self.observer.dropped(outbox.dropped - dropped, now)
        return fits
