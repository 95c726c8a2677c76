"""The codec of Wyoming for speech to text: one transcript for each `audio-stop`, over all that was said before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode, InvalidFormat, brief
from streamer.protocols.codec import Reply
from streamer.protocols.message_reader import MAX_AUDIO_BYTES, too_big, unsupported_format
from streamer.protocols.mixer import Mixer
from streamer.protocols.transcript import transcript_of
from streamer.protocols.wyoming_wire import WyomingEvent, error_event
from streamer.session import events
from streamer.session.events import Event, FinishReason
from streamer.session.messages import Audio, KeepAlive, Malformed, Message, Start, Stop

Steps = Message | list[Message | Reply[WyomingEvent]]

ENCODINGS: Mapping[int, Encoding] = MappingProxyType(
    {1: Encoding.PCM_U8, 2: Encoding.PCM_S16LE, 3: Encoding.PCM_S24LE, 4: Encoding.PCM_S32LE}
)
"""By `width`: bytes of one sample."""
MAX_LANGUAGE = 64
_WEBSITE = "https://pypi.org/project/streamer-audio/"


class WyomingAudioFormat(msgspec.Struct, frozen=True):
    """Format of audio as events say it: `rate` in Hz, `width` in bytes."""

    rate: int
    width: int
    channels: int


class WyomingTranscribe(msgspec.Struct, frozen=True):
    """The part of `transcribe` that has an effect. `language`: BCP 47."""

    language: str | None = None


@dataclass(frozen=True, slots=True)
class WyomingProgram:
    """The description of the server, for `info`. `languages`: BCP 47; Home Assistant offers no others.

    `reads_language`: the model has an option for the language of a command.
    """

    model: str
    version: str
    languages: tuple[str, ...]
    reads_language: bool = False

    def info(self) -> WyomingEvent:
        """Return the answer to `describe`."""
        attribution = {"name": "Streamer", "url": _WEBSITE}
        common = {"attribution": attribution, "installed": True, "version": self.version}
        model = {"name": self.model, "description": self.model, **common, "languages": list(self.languages)}
        program = {
            "name": "streamer",
            "description": "Streamer",
            **common,
            "models": [model],
            "supports_transcript_streaming": True,
            "requires_external_vad": True,
        }
        return WyomingEvent("info", {"asr": [program]})


class Wyoming:
    """Codec of one connection, which may send one command after the other.

    Events of a type that is not known are ignored, as the protocol asks of servers.
    """

    name: ClassVar[str] = "wyoming"
    joins_audio: ClassVar[bool] = False

    def __init__(self, program: WyomingProgram, *, max_audio_message_bytes: int = MAX_AUDIO_BYTES) -> None:
        self._program = program
        self._max_audio = max_audio_message_bytes
        self._format: WyomingAudioFormat | None = None
        """Format of the running stream; None without."""
        self._mixer: Mixer | None = None
        """Mixer of the running stream, if it has several channels."""
        self._key: tuple[object, ...] = ()
        """The values of the format, for the comparison with each chunk."""
        self._language: str | None = None
        self._texts: list[str] = []
        """Finals of the running stream that have a text."""
        self._is_told = False
        """`transcript-start` was sent."""
        self._ends: deque[bool] = deque()
        """For each stream that the client has ended and that is not finished: whether a transcript is owed."""

    @property
    def ends_with_connection(self) -> bool:
        """Whether no command is open: a client closes after its last transcript."""
        return self._format is None and not self._ends

    def begin(self) -> tuple[()]:
        return ()

    @staticmethod
    def needs_session(event: WyomingEvent) -> bool:
        """Return whether an event begins a stream, so that a connection without a session needs one."""
        return event.type in {"audio-start", "audio-chunk"}

    def decode(self, frame: WyomingEvent) -> Steps:  # noqa: PLR0911 (one per event)
        match frame.type:
            case "audio-chunk":
                return self._chunk(frame)
            case "audio-start":
                return self._start(frame)
            case "audio-stop":
                return self._stop()
            case "transcribe":
                return self._transcribe(frame)
            case "describe":
                return [KeepAlive(), Reply(self._program.info())]
            case "ping":
                return [KeepAlive(), Reply(WyomingEvent("pong", {"text": _text_of(frame)}))]
            case _:
                return KeepAlive()

    def encode(self, event: Event) -> list[Reply[WyomingEvent]] | None:
        match event:
            case events.Segment(is_final=True):
                return self._final(event.output)
            case events.ErrorEvent():
                return [Reply(error_event(event.code, event.message))]
            case events.Finished():
                return self._finish(event.reason)
            case _:
                return None

    def _start(self, frame: WyomingEvent) -> Steps:
        """Begin a stream; one that runs is finished first, and has no transcript."""
        read = _read_format(frame)
        if isinstance(read, Malformed):
            return read
        if self._format is not None:
            self._ends.append(False)
        return self._begin(*read)

    def _begin(self, format_: WyomingAudioFormat, audio: AudioFormat) -> Start:
        self._format = format_
        self._key = (format_.rate, format_.width, format_.channels)
        self._mixer = None
        if audio.channels > 1:
            self._mixer = Mixer(audio)
            audio = AudioFormat(Encoding.PCM_S16LE, audio.sample_rate, 1)
        options = b"{}" if self._language is None else msgspec.json.encode({"language": self._language})
        return Start(audio, options=options)

    def _chunk(self, frame: WyomingEvent) -> Steps:
        if len(frame.payload) > self._max_audio:
            return too_big("the payload of an audio-chunk", self._max_audio, len(frame.payload))
        data = frame.data
        if self._format is not None and self._key == (data.get("rate"), data.get("width"), data.get("channels")):
            return self._audio(frame.payload)
        read = _read_format(frame)
        if isinstance(read, Malformed):
            return read
        if self._format is None:
            return [self._begin(*read), self._audio(frame.payload)]
        return _refused(f"audio-chunk: expected the stream's {_spelt(self._format)}, got {_spelt(read[0])}")

    def _audio(self, payload: bytes) -> Audio:
        return Audio(payload if self._mixer is None else self._mixer.push(payload))

    def _stop(self) -> Steps:
        if self._format is None:
            return [KeepAlive()] if self._ends else [KeepAlive(), *self._transcript()]
        self._format = None
        self._ends.append(True)
        return Stop(keep_open=True)

    def _transcribe(self, frame: WyomingEvent) -> Steps:
        try:
            language = msgspec.convert(frame.data, WyomingTranscribe).language
        except msgspec.ValidationError as error:
            return _refused(f"transcribe: {_brief(error)}")
        if language is not None and len(language) > MAX_LANGUAGE:
            return _refused(f"transcribe: language: expected at most {MAX_LANGUAGE} characters, got {len(language)}")
        self._language = language if self._program.reads_language else None
        return KeepAlive()

    def _final(self, output: msgspec.Raw) -> list[Reply[WyomingEvent]] | None:
        transcript = transcript_of(output)
        if transcript is None or not transcript.text:
            return None
        if transcript.language is not None:
            self._language = transcript.language
        self._texts.append(transcript.text)
        space = " " if len(self._texts) > 1 else ""
        return [*self._opening(), Reply(WyomingEvent("transcript-chunk", {"text": space + transcript.text}))]

    def _finish(self, reason: FinishReason) -> list[Reply[WyomingEvent]]:
        """Return the transcript, unless the stream ended before its command did: half of a command is not executed."""
        if self._ends and self._ends.popleft():
            return self._transcript()
        self._texts.clear()
        self._is_told = False
        if reason is FinishReason.DRAINED:
            return [Reply(error_event(ErrorCode.DRAINING, "the server shuts down"))]
        return []

    def _transcript(self) -> list[Reply[WyomingEvent]]:
        opening = self._opening()
        data = {"text": " ".join(self._texts), **self._spoken()}
        self._texts.clear()
        self._is_told = False
        return [*opening, Reply(WyomingEvent("transcript", data)), Reply(WyomingEvent("transcript-stop"))]

    def _opening(self) -> list[Reply[WyomingEvent]]:
        if self._is_told:
            return []
        self._is_told = True
        return [Reply(WyomingEvent("transcript-start", self._spoken()))]

    def _spoken(self) -> dict[str, Any]:
        return {} if self._language is None else {"language": self._language}


def _read_format(frame: WyomingEvent) -> tuple[WyomingAudioFormat, AudioFormat] | Malformed:
    try:
        format_ = msgspec.convert(frame.data, WyomingAudioFormat)
        encoding = ENCODINGS.get(format_.width)
        if encoding is None:
            raise InvalidFormat(field=f"{frame.type}.width", expected="1, 2, 3 or 4 bytes", got=format_.width)
        return format_, AudioFormat(encoding, format_.rate, format_.channels).check()
    except msgspec.ValidationError as error:
        return _refused(f"{frame.type}: {_brief(error)}", ErrorCode.INVALID_FORMAT)
    except InvalidFormat as error:
        return unsupported_format(error)


def _refused(text: str, code: ErrorCode = ErrorCode.BAD_REQUEST) -> Malformed:
    return Malformed(code, text, fatal=True)


def _spelt(format_: WyomingAudioFormat) -> str:
    return f"rate {format_.rate}, width {format_.width}, channels {format_.channels}"


def _text_of(frame: WyomingEvent) -> str | None:
    text = frame.data.get("text")
    return text if isinstance(text, str) else None


def _brief(error: msgspec.ValidationError) -> str:
    return brief(str(error))
