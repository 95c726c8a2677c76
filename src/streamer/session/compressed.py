"""Compressed audio in front of a session: the client's messages pass in their order, audio as PCM."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import BinaryIO

from streamer.errors import StreamerError
from streamer.media.decoder import MediaDecoder
from streamer.media.formats import MediaFormat
from streamer.session.actions import Action, Decode
from streamer.session.message_queue import memory_of
from streamer.session.messages import Audio, Configure, Flush, HalfClose, KeepAlive, Message, SetFormat, Start, Stop
from streamer.session.session import Session
from streamer.session.state import SessionState

STEP_S = 0.25
"""Seconds of audio that are decoded at a time, which takes some 0.3 ms."""
_Queued = Audio | Start | Configure | Flush | Stop | HalfClose
"""A message that keeps its place among the audio."""


class CompressedInput:
    """Decodes the audio of one client for its session.

    A message that would take long is decoded in steps: the answer has a `Decode` then, and the outside calls `proceed`
    when it is the client's turn. Meanwhile the client should not be read. Messages that come all the same wait.
    """

    def __init__(self, session: Session, spool: BinaryIO | None = None) -> None:
        """`spool`: a file for an MP4 whose index is at its end; None: such a file is refused."""
        self._session = session
        self._spool = spool
        self._declared: MediaFormat | None = None
        self._media: MediaDecoder | None = None
        self._waiting: deque[_Queued] = deque()

    @property
    def is_pending(self) -> bool:
        """Whether `proceed` has something to do."""
        is_open = self._session.state is not SessionState.CLOSED
        return is_open and bool(self._waiting or (self._media is not None and self._media.is_pending))

    def receive(self, message: Message, now: float) -> Sequence[Action]:
        """Take a message of the client, as `Session.receive` does."""
        if not isinstance(message, _Queued):
            return self._session.receive(message, now)
        if self._waiting or (self._is_decoding and not isinstance(message, Audio)):
            self._put(message)
            return ()
        out: list[Action] = []
        self._take(message, out, now)
        return self._proceed(out, now)

    def proceed(self, now: float) -> Sequence[Action]:
        """Decode the next step."""
        return self._proceed([], now)

    def _proceed(self, out: list[Action], now: float) -> Sequence[Action]:
        self._decode(out, now)
        while self._waiting and not self._is_decoding:
            self._take(self._pop(), out, now)
            self._decode(out, now)
        if self.is_pending:
            out.append(Decode())
        return out

    @property
    def _is_decoding(self) -> bool:
        return self._media is not None and self._media.is_pending

    def _take(self, message: _Queued, out: list[Action], now: float) -> None:
        """Take one message. Everything before it has been decoded, unless it is audio."""
        media = self._media
        if isinstance(message, Audio) and self._declared is not None:
            media = media or self._begin(self._declared)
            media.push(message.data)
            out += self._session.receive(KeepAlive(), now)
        elif media is not None and not isinstance(message, Audio | Configure | Flush):
            media.finish()
            self._put(message, first=True)
        else:
            self._pass_on(message, out, now)

    def _begin(self, declared: MediaFormat) -> MediaDecoder:
        settings = self._session.settings
        self._media = MediaDecoder(
            declared,
            settings.model_sample_rate,
            max_channels=settings.limits.max_channels,
            served=settings.containers,
            libopus=settings.libopus,
            spool=self._spool,
        )
        self._session.load.media = self._media
        return self._media

    def _pass_on(self, message: _Queued, out: list[Action], now: float) -> None:
        if isinstance(message, Start):
            self._declared = message.media
        out += self._session.receive(message, now)

    def _decode(self, out: list[Action], now: float) -> None:
        """Decode a step, and hand it to the session."""
        media = self._media
        if media is None or not media.is_pending:
            return
        is_new, bad_packets = media.format is None, media.bad_packets
        try:
            data = media.take(STEP_S)
            self._session.load.bad_packets += media.bad_packets - bad_packets
        except StreamerError as error:
            self._drop()
            self._waiting.clear()
            out += self._session.close_with_error(error.code, error.message, now)
            return
        if is_new and media.format is not None:
            out += self._session.receive(SetFormat(media.format), now)
        if data:
            out += self._session.receive(Audio(data), now)
        if media.is_finished:
            self._drop()

    def _put(self, message: _Queued, *, first: bool = False) -> None:
        """Queue a message until the audio before it is decoded. `first`: before all others."""
        (self._waiting.appendleft if first else self._waiting.append)(message)
        self._session.load.undecoded_bytes += memory_of(message)

    def _pop(self) -> _Queued:
        message = self._waiting.popleft()
        self._session.load.undecoded_bytes -= memory_of(message)
        return message

    def _drop(self) -> None:
        self._media = self._session.load.media = None
