"""The codec of one connection to `/v2/listen` (Flux): turns, each told as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from streamer.errors import BadRequest, ErrorCode
from streamer.protocols.codec import Reply, Timebase
from streamer.protocols.deepgram import flux_wire as wire
from streamer.protocols.deepgram.flux_query import FluxRequest, with_changes
from streamer.protocols.deepgram.listen import ListenIdentity
from streamer.protocols.deepgram.words import alternative_of
from streamer.protocols.message_reader import MAX_AUDIO_BYTES, MAX_CONTROL_BYTES, MessageReader
from streamer.protocols.mixer import Mixer
from streamer.protocols.transcript import transcript_of
from streamer.session import events
from streamer.session.events import EndReason, Event
from streamer.session.messages import Audio, Configure, Flush, KeepAlive, Malformed, Message, Stop

Frame = str | bytes
Step = Message | Reply[Frame]


class Flux:
    """Codec of one connection. `sample_rate`: of the model in Hz, the unit of event positions.

    A turn starts with its first words, so noise is no turn. It ends with its utterance, and with the second part of an
    utterance that was cut for its length.
    """

    name: ClassVar[str] = "deepgram"
    joins_audio: ClassVar[bool] = False  # a message may be a packet of Opus
    ends_with_connection: ClassVar[bool] = False

    def __init__(
        self,
        request: FluxRequest,
        identity: ListenIdentity,
        sample_rate: int,
        *,
        max_control_bytes: int = MAX_CONTROL_BYTES,
        max_audio_message_bytes: int = MAX_AUDIO_BYTES,
    ) -> None:
        self._request = request
        self._id = identity.request_id
        self._clock = Timebase(sample_rate)
        self._encoder = msgspec.json.Encoder()
        self._reader: MessageReader[wire.FluxMessage] = MessageReader(
            wire.FluxMessage,
            "ForceEndTurn, CloseStream, KeepAlive, Configure",
            max_control_bytes=max_control_bytes,
            max_audio_message_bytes=max_audio_message_bytes,
        )
        self._mixer = None if request.mixed is None else Mixer(request.mixed)
        self._sequence = self._turn = 0
        self._is_open = False
        self._start_s = 0.0
        self._text: list[str] = []
        self._words: list[wire.FluxWord] = []
        """Of the parts of the turn whose finals have come."""

    def begin(self) -> Sequence[Step]:
        return [self._frame(wire.FluxConnected(self._id, self._next())), self._request.start]

    # Of the client ------------------------------------------------------------------------------

    def decode(self, frame: Frame) -> Message | list[Step]:  # noqa: PLR0911 (one per message)
        if not isinstance(frame, str):
            return self._audio(frame)
        match self._reader.text(frame):
            case wire.ForceEndTurn():
                return Flush()
            case wire.FluxCloseStream():
                return Stop()
            case wire.FluxKeepAlive():
                return KeepAlive()
            case wire.FluxConfigure() as change:
                return self._configure(change)
            case Malformed(fatal=True) as malformed:
                return malformed
            case Malformed(message=text):
                return [KeepAlive(), self._warning("UNPARSABLE_CLIENT_MESSAGE", text)]

    def _audio(self, data: bytes) -> Message:
        message = self._reader.audio(data)
        if isinstance(message, Malformed) or self._mixer is None:
            return message
        return Audio(self._mixer.push(data))

    def _configure(self, change: wire.FluxConfigure) -> list[Step]:
        keyterms = [change.keyterms] if isinstance(change.keyterms, str) else change.keyterms
        try:
            request = with_changes(
                self._request, change.thresholds or wire.Thresholds(), keyterms, change.language_hints
            )
        except BadRequest as error:
            failure = wire.FluxConfigureFailure(self._id, self._next(), "INVALID_CONFIGURATION", error.message)
            return [KeepAlive(), self._frame(failure)]
        self._request, start = request, request.start
        hints = change.language_hints if "language_hint" in request.options else None
        return [
            Configure(start.vad, start.interim_results, start.interim_interval_ms, start.options),
            self._frame(wire.FluxConfigureSuccess(self._id, request.thresholds, request.keyterms, self._next(), hints)),
        ]

    # Of the server ------------------------------------------------------------------------------

    def encode(self, event: Event) -> list[Reply[Frame]] | None:
        match event:
            case events.Segment():
                return self._segment(event)
            case events.ErrorEvent(fatal=True):
                return [self._frame(wire.FluxError(self._next(), event.code.upper(), event.message))]
            case events.ErrorEvent():
                return self._failed(event)
            case _:
                return None

    def _segment(self, event: events.Segment) -> list[Reply[Frame]]:
        transcript = transcript_of(event.output)
        if transcript is None:
            text = "the model's output is not a transcript: expected text, or an object with text"
            lost = events.ErrorEvent(ErrorCode.MODEL_ERROR, text, start=event.start, end=event.end)
            return self._failed(lost) if event.is_final else []
        start_s, end_s = self._clock.seconds(event.start), self._clock.seconds(event.end)
        found = alternative_of(transcript, start_s, end_s, None, names_languages=True)
        words = [
            wire.FluxWord(each.punctuated_word or "", each.confidence, each.start, each.end) for each in found.words
        ]
        frames: list[Reply[Frame]] = []
        text = " ".join(filter(None, [*self._text, found.transcript]))
        goes_on = not event.is_final or event.end_reason is EndReason.MAX_LENGTH
        if not self._is_open and text:
            self._is_open, self._start_s = True, start_s
            frames.append(self._info("StartOfTurn", end_s, text, words, found.languages))
        elif self._is_open and goes_on:
            frames.append(self._info("Update", end_s, text, words, found.languages))
        if event.is_final and goes_on and found.transcript:
            self._text.append(found.transcript)
            self._words += words
        if not goes_on and self._is_open:
            frames.append(self._info("EndOfTurn", end_s, text, words, found.languages, self._trigger(event.end_reason)))
            self._end_turn()
        return frames

    def _failed(self, event: events.ErrorEvent) -> list[Reply[Frame]]:
        """Warn; and end the turn, of which only the parts before are known."""
        frames = [self._warning(event.code.upper(), event.message)]
        if self._is_open and event.end is not None:
            end_s = self._clock.seconds(event.end)
            frames.append(self._info("EndOfTurn", end_s, " ".join(self._text), [], None, "model"))
            self._end_turn()
        return frames

    def _trigger(self, reason: EndReason | None) -> str:
        if reason is EndReason.FLUSH:
            return "manual"
        return "timeout" if self._request.is_manual and reason is not EndReason.STOP else "model"

    def _end_turn(self) -> None:
        self._is_open = False
        self._turn += 1
        self._text, self._words = [], []

    def _info(
        self,
        event: str,
        end_s: float,
        text: str,
        words: list[wire.FluxWord],
        languages: list[str] | None,
        trigger: str | None = None,
    ) -> Reply[Frame]:
        confidence = 0.0 if trigger is None else 1.0
        return self._frame(
            wire.TurnInfo(
                self._id,
                self._next(),
                event,
                self._turn,
                self._start_s,
                end_s,
                text,
                [*self._words, *words],
                confidence,
                trigger,
                languages,
            )
        )

    def _warning(self, code: str, text: str) -> Reply[Frame]:
        return self._frame(wire.FluxWarning(self._id, self._next(), code, text))

    def _next(self) -> int:
        sequence, self._sequence = self._sequence, self._sequence + 1
        return sequence

    def _frame(self, message: msgspec.Struct) -> Reply[Frame]:
        """Return a frame. None may be dropped, because clients see gaps in `sequence_id`."""
        return Reply(self._encoder.encode(message).decode())
