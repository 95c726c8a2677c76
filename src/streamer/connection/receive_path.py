"""The way of a client's messages into its session: straight, or with compressed audio decoded in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import BinaryIO

from streamer.connection.loop_throttle import LoopThrottle
from streamer.connection.read_gate import ReadGate
from streamer.media.formats import Container
from streamer.session.actions import Action
from streamer.session.compressed import CompressedInput
from streamer.session.messages import Message, Start
from streamer.session.session import Session

MAX_COALESCE_BYTES = 4_096
"""Bytes of audio up to which small messages are taken as one."""
Receive = Callable[[Message, float], Sequence[Action]]
"""A step of the session, or of what stands in front of it."""


class ReceivePath:
    """Chooses the way by the client's starts. Plain PCM goes straight to the session and costs nothing here.

    Audio that takes long to decode is decoded in steps, each in its turn among all connections, and the client is not
    read meanwhile. No step begins while the client is too far ahead of the model.
    """

    def __init__(
        self,
        session: Session,
        gate: ReadGate,
        turns: LoopThrottle,
        enter: Callable[[Callable[[float], Sequence[Action]]], None],
        spool: BinaryIO | None = None,
    ) -> None:
        """Create a straight way. `enter`: runs a step of the session. `spool`: see CompressedInput."""
        self._session = session
        self._gate = gate
        self._turns = turns
        self._enter = enter
        self._spool = spool
        self._input: CompressedInput | None = None
        self._decoding: asyncio.Task[None] | None = None
        self.receive: Receive = session.receive
        self.coalesce_bytes = self._coalesce_bytes = min(
            MAX_COALESCE_BYTES, session.settings.limits.max_audio_message_bytes
        )
        """Bytes of audio up to which small messages are taken as one; 0 if each message is a packet of its own."""

    def begin(self, start: Start) -> bool:
        """Choose the way for what follows a start; return whether `coalesce_bytes` is another one now."""
        before = self.coalesce_bytes
        has_packets = start.media is not None and start.media.container is Container.OPUS
        self.coalesce_bytes = 0 if has_packets else self._coalesce_bytes
        if start.media is not None and self._input is None:
            self._input = CompressedInput(self._session, self._spool)
            self.receive = self._receive
        return self.coalesce_bytes != before

    def low_watermark_bytes(self) -> int:
        """Bytes of audio without which the session has nothing to do; 0 if any byte may be of use."""
        return self._session.low_watermark_bytes() if self._input is None else 0

    def stop(self) -> None:
        """Decode nothing more, and refer to nobody."""
        if self._decoding is not None:
            self._decoding.cancel()
        self.receive, self._enter = self._session.receive, _discard

    def _receive(self, message: Message, now: float) -> Sequence[Action]:
        assert self._input is not None
        actions = self._input.receive(message, now)
        if self._input.is_pending and self._decoding is None:
            self._gate.suspend()
            self._decoding = asyncio.get_running_loop().create_task(self._decode(self._input))
        return actions

    async def _decode(self, waiting: CompressedInput) -> None:
        """Decode what has come, a step at a time."""
        try:
            while waiting.is_pending and not self._gate.is_finished:
                await asyncio.sleep(0)
                await self._turns.acquire()
                await self._gate.room()
                if not self._gate.is_finished:
                    self._enter(waiting.proceed)
        finally:
            self._decoding = None
            self._gate.resume()


def _discard(step: Callable[[float], Sequence[Action]]) -> None:
    """Enter a session that has ended."""
