"""The codec of one live connection to `/v1/listen`."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import msgspec

from streamer.errors import ErrorCode
from streamer.protocols.codec import Reply, Timebase
from streamer.protocols.deepgram import listen_wire as wire
from streamer.protocols.deepgram.query import ListenRequest, with_keyterms
from streamer.protocols.deepgram.words import Speakers, alternative_of
from streamer.protocols.message_reader import MAX_AUDIO_BYTES, MAX_CONTROL_BYTES, MessageReader
from streamer.protocols.mixer import Mixer
from streamer.protocols.transcript import transcript_of
from streamer.session import events
from streamer.session.events import EndReason, Event
from streamer.session.messages import Audio, Configure, Flush, KeepAlive, Malformed, Message, Stop
from streamer.transcripts.transcript import Transcript

Frame = str | bytes
Step = Message | Reply[Frame]

_MAX_ECHO = 1_000
"""Characters of a client's message that an error repeats."""
_MAX_HELD = 16
"""Answers that wait for that of a Finalize; more of them overtake it."""
_KEYTERMS = "keyterm"
"""Name of the model's option for key terms."""


@dataclass(frozen=True, slots=True)
class ListenIdentity:
    """The request and the model that results name. `created`: the time of the request (ISO 8601)."""

    request_id: str
    created: str
    model: str
    model_uuid: str
    model_version: str = "1"


@dataclass(slots=True)
class _ChannelState:
    """State of one channel. Times in seconds."""

    begun_s: deque[float] = field(default_factory=deque)
    """Times at which the utterances were heard whose finals have not been sent."""
    covered_s: float = 0.0
    """End of the last final."""
    last_word_s: float | None = None
    """End of the last word, until UtteranceEnd has been sent for it."""


@dataclass(slots=True)
class _Finalizing:
    """A Finalize whose results are pending. `channels`: those that have not been answered.

    `held`: answers to later messages, which follow its own.
    """

    channels: set[int] = field(default_factory=set)
    held: list[Reply[Frame]] = field(default_factory=list)


class Listen:
    """Codec of one connection. `sample_rate`: of the model in Hz, the unit of event positions."""

    name: ClassVar[str] = "deepgram"
    joins_audio: ClassVar[bool] = False  # a binary message of no bytes closes the stream
    ends_with_connection: ClassVar[bool] = False

    def __init__(
        self,
        request: ListenRequest,
        identity: ListenIdentity,
        sample_rate: int,
        *,
        max_control_bytes: int = MAX_CONTROL_BYTES,
        max_audio_message_bytes: int = MAX_AUDIO_BYTES,
    ) -> None:
        self._request = request
        self._identity = identity
        self._clock = Timebase(sample_rate)
        self._encoder = msgspec.json.Encoder()
        self._reader: MessageReader[wire.ListenMessage] = MessageReader(
            wire.ListenMessage,
            "KeepAlive, Finalize, CloseStream, Configure",
            max_control_bytes=max_control_bytes,
            max_audio_message_bytes=max_audio_message_bytes,
        )
        self._mixer = None if request.mixed is None else Mixer(request.mixed)
        self._hash = hashlib.sha256()
        self._channels = [_ChannelState() for _ in range(request.channels)]
        self._finalizing: deque[_Finalizing] = deque()
        self._speakers = Speakers() if request.diarizes else None
        self._heard_s = 0.0
        model = wire.ListenModel(identity.model, identity.model_version)
        about = wire.ResultMetadata(identity.request_id, model, identity.model_uuid)
        self._metadata = msgspec.Raw(self._encoder.encode(about))

    def begin(self) -> Sequence[Step]:
        return [self._request.start]

    # Of the client ------------------------------------------------------------------------------

    def decode(self, frame: Frame) -> Message | list[Step]:  # noqa: PLR0911 (one per message)
        if not isinstance(frame, str):
            return self._audio(frame)
        match self._reader.text(frame):
            case wire.ListenKeepAlive():
                return KeepAlive()
            case wire.CloseStream():
                return Stop()
            case wire.Finalize(channel=channel):
                return self._finalize(channel, frame)
            case wire.Reconfigure() as change:
                return self._configure(change)
            case Malformed(fatal=True) as malformed:
                return malformed
            case Malformed(message=text):
                return self._unread(text, frame)

    def _audio(self, data: bytes) -> Message | list[Step]:
        if not data:
            return Stop()
        message = self._reader.audio(data)
        if isinstance(message, Malformed):
            return message
        self._hash.update(data)
        return message if self._mixer is None else Audio(self._mixer.push(data))

    def _finalize(self, channel: int | None, frame: str) -> list[Step]:
        count = len(self._channels)
        if channel is not None and channel >= count:
            return self._unread(f"channel: expected less than {count}, got {channel}", frame)
        self._finalizing.append(_Finalizing(set(range(count)) if channel is None else {channel}))
        return [Flush()]

    def _configure(self, change: wire.Reconfigure) -> list[Step]:
        request_id = self._identity.request_id
        if change.keyterms is None:  # features of formatting are without effect, as they are in the query
            return [KeepAlive(), *self._in_order(wire.ConfigureSuccess(request_id))]
        if not self._request.takes_keyterms:
            text = f"the model {self._identity.model} takes no key terms"
            failure = wire.ConfigureFailure(request_id, "CONFIGURE_KEYTERMS_NOT_SUPPORTED", text)
            return [KeepAlive(), *self._in_order(failure)]
        self._request = with_keyterms(self._request, change.keyterms)
        start = self._request.start
        return [
            Configure(start.vad, start.interim_results, start.interim_interval_ms, start.options),
            *self._in_order(wire.ConfigureSuccess(request_id, change.keyterms)),
        ]

    def _in_order(self, answer: msgspec.Struct) -> list[Reply[Frame]]:
        """Return the answer to a message, unless it has to follow that of a Finalize before it."""
        frame = self._frame(answer)
        if not self._finalizing or len(self._finalizing[-1].held) >= _MAX_HELD:
            return [frame]
        self._finalizing[-1].held.append(frame)
        return []

    def _unread(self, text: str, frame: str) -> list[Step]:
        """Return the answer to a message that cannot be read. It counts as a message, and ends nothing."""
        echo = frame[:_MAX_ECHO].encode("utf-8", "replace").decode()
        return [KeepAlive(), self._frame(wire.ListenError("SchemaError", text, echo))]

    # Of the server ------------------------------------------------------------------------------

    def encode(self, event: Event) -> list[Reply[Frame]] | None:  # noqa: PLR0911 (one per event)
        match event:
            case events.Segment():
                return self._segment(event)
            case events.Progress(position=position):
                self._heard_s = self._clock.seconds(position)
                return [end for index in range(len(self._channels)) for end in self._utterance_end(index)]
            case events.SpeechStarted():
                return self._speech_started(event)
            case events.Flushed():
                return self._flushed()
            case events.ErrorEvent():
                return self._failed(event)
            case events.Finished(duration_s=duration_s):
                return [self._summary(duration_s)]
            case _:
                return None  # clients warn of types that they do not know

    def _segment(self, event: events.Segment) -> list[Reply[Frame]]:
        transcript = transcript_of(event.output)
        if transcript is None:
            return self._failed(_not_a_transcript(event)) if event.is_final else []
        from_finalize = event.end_reason is EndReason.FLUSH and self._answers_finalize(event.channel)
        ends = event.is_final and event.end_reason is not EndReason.MAX_LENGTH
        sent = self._results(event, transcript, speech_final=ends, from_finalize=from_finalize)
        return [sent, *self._utterance_end(event.channel)] if event.is_final else [sent]

    def _results(
        self,
        event: events.Segment,
        transcript: Transcript,
        *,
        speech_final: bool,
        from_finalize: bool,
    ) -> Reply[Frame]:
        start_s, end_s = self._clock.seconds(event.start), self._clock.seconds(event.end)
        found = alternative_of(
            transcript, start_s, end_s, self._speakers, names_languages=self._request.is_multilingual
        )
        if event.is_final:
            state = self._state(event.channel)
            if state.begun_s:
                state.begun_s.popleft()
            state.covered_s = end_s
            if found.words:
                state.last_word_s = found.words[-1].end
        is_said = speech_final and (self._request.sends_speech_final or event.end_reason is not EndReason.SILENCE)
        return self._frame(
            wire.Results(
                self._index(event.channel),
                start_s,
                round(end_s - start_s, 6),
                event.is_final,
                is_said,
                wire.ChannelResult([found]),
                self._metadata,
                from_finalize,
            ),
            is_replaceable=not event.is_final,
        )

    def _speech_started(self, event: events.SpeechStarted) -> list[Reply[Frame]] | None:
        at_s = self._clock.seconds(event.position)
        self._state(event.channel).begun_s.append(max(at_s, self._heard_s))  # audio before the speech belongs to it
        if not self._request.sends_speech_start:
            return None
        return [self._frame(wire.ListenSpeechStarted(self._index(event.channel), at_s))]

    def _utterance_end(self, index: int) -> list[Reply[Frame]]:
        """Return UtteranceEnd, if the gap after the last word is long enough. A slow model delays it."""
        state, after_s = self._state(index), self._request.utterance_end_s
        if after_s is None or state.last_word_s is None:
            return []
        next_s = state.begun_s[0] if state.begun_s else self._heard_s
        if next_s < state.last_word_s + after_s:
            return []
        last, state.last_word_s = state.last_word_s, None
        return [self._frame(wire.UtteranceEnd(self._index(index), last))]

    def _answers_finalize(self, index: int) -> bool:
        """Note that a channel has answered the first Finalize that still waits for it; return whether one did."""
        for pending in self._finalizing:
            if index in pending.channels:
                pending.channels.discard(index)
                return True
        return False

    def _flushed(self) -> list[Reply[Frame]]:
        """Answer a Finalize on the channels without a pending result, because clients wait for it."""
        if not self._finalizing:
            return []
        pending = self._finalizing.popleft()
        return [*(self._empty(index, from_finalize=True) for index in sorted(pending.channels)), *pending.held]

    def _empty(self, index: int, *, from_finalize: bool) -> Reply[Frame]:
        at_s = self._state(index).covered_s
        nothing = alternative_of(Transcript(""), at_s, at_s, None, names_languages=False)
        results = wire.Results(
            self._index(index), at_s, 0.0, True, True, wire.ChannelResult([nothing]), self._metadata, from_finalize
        )
        return self._frame(results)

    def _failed(self, event: events.ErrorEvent) -> list[Reply[Frame]]:
        """Return an error; with a range, also the empty result of that range."""
        error = self._frame(wire.ListenError(_variant(event.code), event.message))
        if event.fatal or event.channel is None or event.start is None or event.end is None:
            return [error]
        lost = events.Segment(event.channel, 0, event.start, event.end, True, _NOTHING)
        return [
            error,
            self._results(lost, Transcript(""), speech_final=True, from_finalize=False),
            *self._utterance_end(event.channel),
        ]

    def _summary(self, duration_s: float) -> Reply[Frame]:
        identity = self._identity
        return self._frame(
            wire.ListenMetadata(
                "deprecated",
                identity.request_id,
                self._hash.hexdigest(),
                identity.created,
                round(duration_s, 6),
                len(self._channels),
            )
        )

    def _state(self, index: int) -> _ChannelState:
        """Return the state of a channel. Only the audio of a container says how many there are."""
        while index >= len(self._channels):
            self._channels.append(_ChannelState())
        return self._channels[index]

    def _index(self, index: int) -> list[int]:
        return [index, len(self._channels)]

    def _frame(self, message: msgspec.Struct, *, is_replaceable: bool = False) -> Reply[Frame]:
        return Reply(self._encoder.encode(message).decode(), is_replaceable)


_NOTHING = msgspec.Raw(b'""')


def _not_a_transcript(event: events.Segment) -> events.ErrorEvent:
    text = "the model's output is not a transcript: expected text, or an object with text"
    return events.ErrorEvent(ErrorCode.MODEL_ERROR, text, channel=event.channel, start=event.start, end=event.end)


def _variant(code: ErrorCode) -> str:
    """Return the name of an error in Deepgram's style: ModelError for model_error."""
    return "".join(part.capitalize() for part in code.split("_"))
