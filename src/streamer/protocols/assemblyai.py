"""The codec of AssemblyAI's streaming protocol v3: turns, each told as a whole with every event."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import BadRequest, ErrorCode, InvalidFormat, brief
from streamer.media.formats import Container, MediaFormat, provisional
from streamer.protocols import assemblyai_wire as wire
from streamer.protocols.codec import Reply, Timebase
from streamer.protocols.message_reader import MAX_AUDIO_BYTES, MAX_CONTROL_BYTES, MessageReader
from streamer.protocols.opening import Opening
from streamer.protocols.transcript import transcript_of
from streamer.session import events
from streamer.session.events import Event, FinishReason
from streamer.session.messages import Configure, Flush, KeepAlive, Malformed, Message, Start, Stop, VadOverrides
from streamer.transcripts.transcript import words_of

Frame = str | bytes

SERVER_ERROR = 3005
CODES: Mapping[ErrorCode, int] = MappingProxyType(
    {
        ErrorCode.BAD_REQUEST: 4101,
        ErrorCode.WRONG_FRAME_TYPE: 4100,
        ErrorCode.BAD_STATE: 3006,
        ErrorCode.UNKNOWN_MODEL: 3006,
        ErrorCode.INVALID_FORMAT: 3006,
        ErrorCode.INVALID_AUDIO: 3006,
        ErrorCode.INVALID_UTF8: 1007,
        ErrorCode.PROTOCOL_ERROR: 1002,
        ErrorCode.MESSAGE_TOO_BIG: 3007,
        ErrorCode.UNAUTHENTICATED: 4001,
        ErrorCode.TOKEN_REPLAYED: 4001,
        ErrorCode.FORBIDDEN: 4001,
        ErrorCode.FORBIDDEN_ORIGIN: 4001,
        ErrorCode.TOKEN_EXPIRED: 3008,
        ErrorCode.STREAM_TOO_LONG: 3008,
        ErrorCode.START_TIMEOUT: 4031,
        ErrorCode.IDLE_TIMEOUT: 4031,
        ErrorCode.TOO_FAST: 4029,
        ErrorCode.RATE_LIMITED: 4029,
        ErrorCode.SLOW_CONSUMER: SERVER_ERROR,
        ErrorCode.MODEL_ERROR: SERVER_ERROR,
        ErrorCode.MODEL_TIMEOUT: SERVER_ERROR,
        ErrorCode.MODEL_CRASHED: SERVER_ERROR,
        ErrorCode.INTERNAL: SERVER_ERROR,
        ErrorCode.OVERLOADED: 1013,
        ErrorCode.DRAINING: 1013,
    }
)
"""Codes of error events and closes: AssemblyAI's own, or those of WebSocket."""

REFUSED = ("redact_pii", "filter_profanity", "webhook_url", "llm_gateway")
"""Parameters that a caller relies on, and that have no counterpart here."""
PROGRESS_MS = 1_000
_ENCODINGS = {"pcm_s16le": Encoding.PCM_S16LE, "pcm_mulaw": Encoding.MULAW}
_CONTAINERS = {"opus": Container.OPUS, "ogg_opus": Container.OGG, "aac": Container.AAC}
_NAMES = frozenset(wire.SessionRequest.__struct_fields__)
_CREDENTIALS = frozenset({"token", "access_token"})
_LISTS = frozenset({"language_codes"})
_OPTIONS = {"language_codes": "language", "language_code": "language", "prompt": "prompt"}
"""Parameters that only a model with the option has a use for."""


@dataclass(frozen=True, slots=True)
class TurnPolicy:
    """Settings of the server. Times in milliseconds; `negative_threshold`: the server's own (see VadConfig).

    `model_options`: names of the options that the model reads.
    """

    min_silence_ms: float = 300.0
    max_silence_ms: float = 10_000.0
    negative_threshold: float = 0.35
    containers: frozenset[Container] = frozenset(Container)
    refuses_unsupported: bool = False
    max_session_s: float = 3_600.0
    model_options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """A request as it was understood. `ignored`: names of parameters without effect."""

    settings: wire.TurnSettings
    format: AudioFormat
    media: MediaFormat | None
    ignored: tuple[str, ...]


def read_request(query: Sequence[tuple[str, str]], policy: TurnPolicy, model: str = "") -> SessionPlan:
    """Read the query of a request to a model. Raises BadRequest, naming the parameter."""
    parameters = dict(query)
    if parameters.get("speech_model") == model:
        del parameters["speech_model"]
    for name in REFUSED:
        value = parameters.pop(name, "")
        if value.lower() not in ("", "0", "false", "none", "null"):
            expected = "no such parameter: this server does not change or forward transcripts"
            raise BadRequest(field=name, expected=expected, got=value)
    values: dict[str, Any] = {name: parameters[name] for name in parameters if name in _NAMES}
    for name in _LISTS & values.keys():
        values[name] = _listed(name, values[name])
    try:
        request = msgspec.convert(values, wire.SessionRequest, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(brief(str(error), 160)) from None
    ignored = tuple(name for name in parameters if not _has_effect(name, request, policy))
    if ignored and policy.refuses_unsupported:
        expected = "no parameter without effect (dialects.unsupported_parameters)"
        raise BadRequest(field=ignored[0], expected=expected, got=parameters[ignored[0]])
    overrides(request, policy)
    format_, media = _format(request, policy)
    return SessionPlan(request, format_, media, ignored)


def overrides(settings: wire.TurnSettings, policy: TurnPolicy) -> VadOverrides:
    """Return the endpointing of a client's settings. Raises BadRequest for a value outside of its range."""
    silence = settings.max_turn_silence
    if silence is None:
        silence = settings.min_turn_silence
    if silence is None:
        silence = settings.min_end_of_turn_silence_when_confident
    redemption = None
    if silence is not None:
        if not 0 <= silence <= policy.max_silence_ms:
            expected = f"milliseconds from 0 to {policy.max_silence_ms:g}"
            raise BadRequest(field="max_turn_silence", expected=expected, got=silence)
        redemption = max(float(silence), policy.min_silence_ms)
    positive = settings.vad_threshold
    if positive is None:
        return VadOverrides(redemption_time_ms=redemption)
    if not 0 <= positive <= 1:
        raise BadRequest(field="vad_threshold", expected="a number from 0 to 1", got=positive)
    return VadOverrides(
        positive_speech_threshold=positive,
        negative_speech_threshold=min(positive, policy.negative_threshold),
        redemption_time_ms=redemption,
    )


class AssemblyAi:
    """Codec of one connection. `sample_rate`: of the model in Hz, the unit of event positions."""

    name: ClassVar[str] = "assemblyai"
    joins_audio: ClassVar[bool] = True
    ends_with_connection: ClassVar[bool] = False

    def __init__(
        self,
        plan: SessionPlan,
        opening: Opening,
        policy: TurnPolicy,
        model: str,
        sample_rate: int,
        *,
        max_control_bytes: int = MAX_CONTROL_BYTES,
        max_audio_message_bytes: int = MAX_AUDIO_BYTES,
    ) -> None:
        self._plan = plan
        self._settings = plan.settings
        self._opening = opening
        self._policy = policy
        self._model = model
        self._clock = Timebase(sample_rate)
        self._encoder = msgspec.json.Encoder()
        self._reader: MessageReader[wire.SessionMessage] = MessageReader(
            wire.SessionMessage,
            "UpdateConfiguration, ForceEndpoint, KeepAlive, Terminate",
            max_control_bytes=max_control_bytes,
            max_audio_message_bytes=max_audio_message_bytes,
        )
        self._turn = 0
        self._is_told = False
        """An event of the turn was sent."""
        self._position = 0
        """Position that speech detection has reached."""

    def begin(self) -> Sequence[Message | Reply[Frame]]:
        plan, opening = self._plan, self._opening
        expires_at = int(opening.at + self._policy.max_session_s)
        start = Start(
            plan.format,
            media=plan.media,
            interim_results=self._has_partials,
            vad=overrides(self._settings, self._policy),
            options=self._options(),
            progress_ms=PROGRESS_MS,
        )
        return [self._reply(wire.Begin(opening.id, expires_at, {"model": self._model})), start]

    def decode(self, frame: Frame) -> Message:
        if not isinstance(frame, str):
            return self._reader.audio(frame)
        match self._reader.text(frame):
            case wire.ForceEndpoint():
                return Flush()
            case wire.SessionKeepAlive():
                return KeepAlive()
            case wire.Terminate():
                return Stop()
            case wire.UpdateConfiguration() as changes:
                return self._configure(changes)
            case Malformed() as malformed:
                return _fatal(malformed)

    def encode(self, event: Event) -> list[Reply[Frame]] | None:  # noqa: PLR0911 (one per event)
        match event:
            case events.Segment():
                return self._segment(event)
            case events.SpeechStarted(position=position):
                return [self._reply(wire.VoiceDetected(self._milliseconds(position)))]
            case events.Progress(position=position):
                self._position = position
                return None
            case events.ErrorEvent(fatal=True):
                return [self._reply(wire.SessionError(CODES[event.code], event.message))]
            case events.ErrorEvent():
                return [self._reply(wire.SessionWarning(CODES[event.code], event.message))]
            case events.Finished():
                return [self._reply(self._last_event(event))]
            case _:
                return None

    @property
    def _has_partials(self) -> bool:
        return self._settings.include_partial_turns is not False

    def _options(self) -> bytes:
        codes = self._settings.language_codes or []
        language = codes[0] if len(codes) == 1 else self._settings.language_code
        options = {"language": language, "prompt": self._settings.prompt}
        known = self._policy.model_options
        return self._encoder.encode({name: value for name, value in options.items() if value and name in known})

    def _configure(self, changes: wire.UpdateConfiguration) -> Message:
        if changes.filter_profanity:
            text = "filter_profanity: expected no such parameter: this server does not change transcripts"
            return Malformed(ErrorCode.INVALID_FORMAT, text, fatal=True)
        settings = self._settings.merged(changes)
        try:
            vad = overrides(settings, self._policy)
        except BadRequest as error:
            return Malformed(ErrorCode.INVALID_FORMAT, error.message, fatal=True)
        self._settings = settings
        return Configure(vad, interim_results=self._has_partials, options=self._options())

    def _segment(self, event: events.Segment) -> list[Reply[Frame]] | None:
        transcript = transcript_of(event.output)
        text = transcript.text if transcript is not None else ""
        is_final = event.is_final
        if not text and not (is_final and self._is_told):
            return None
        words = []
        if transcript is not None:
            start, end = self._clock.seconds(event.start), self._clock.seconds(event.end)
            words = [
                wire.TurnWord(
                    word.word,
                    round(word.start_time * 1000),
                    round(word.end_time * 1000),
                    1.0 if word.confidence is None else word.confidence,
                    is_final,
                )
                for word in words_of(transcript, start, end)
            ]
        turn = wire.Turn(
            turn_order=self._turn,
            turn_is_formatted=is_final and bool(self._settings.format_turns),
            end_of_turn=is_final,
            end_of_turn_confidence=1.0 if is_final else 0.0,
            transcript=text,
            utterance=text if is_final else "",
            words=words,
            language_code=transcript.language if transcript is not None else None,
        )
        self._is_told = not is_final
        self._turn += is_final
        return [self._reply(turn, is_replaceable=not is_final)]

    def _last_event(self, event: events.Finished) -> msgspec.Struct:
        if event.reason is FinishReason.DRAINED:
            return wire.SessionError(CODES[ErrorCode.DRAINING], "the server shuts down: connect again")
        seconds = self._clock.seconds(self._position)
        if self._plan.media is None:
            seconds = event.received / self._plan.format.sample_rate
        return wire.Termination(math.ceil(seconds), math.ceil(seconds))

    def _milliseconds(self, position: int) -> int:
        return round(self._clock.seconds(position) * 1000)

    def _reply(self, value: msgspec.Struct, *, is_replaceable: bool = False) -> Reply[Frame]:
        return Reply(self._encoder.encode(value).decode(), is_replaceable)


def _has_effect(name: str, request: wire.SessionRequest, policy: TurnPolicy) -> bool:
    if name == "language_codes" and len(request.language_codes or ()) > 1:
        return False  # a model takes one language
    option = _OPTIONS.get(name)
    return name in _NAMES | _CREDENTIALS if option is None else option in policy.model_options


def _format(request: wire.SessionRequest, policy: TurnPolicy) -> tuple[AudioFormat, MediaFormat | None]:
    """Return the format of PCM; or a guess at it, and the format of compressed audio. Raises BadRequest."""
    container = _CONTAINERS.get(request.encoding)
    if container is not None and container in policy.containers:
        return provisional(), MediaFormat(container, downmix=container is not Container.OPUS)
    encoding = _ENCODINGS.get(request.encoding)
    if encoding is None:
        served = [name for name, each in _CONTAINERS.items() if each in policy.containers]
        expected = f"one of {', '.join((*_ENCODINGS, *served))}"
        raise BadRequest(field="encoding", expected=expected, got=request.encoding)
    if request.sample_rate is None:
        expected = f"a sample rate in Hz beside encoding={request.encoding}"
        raise BadRequest(field="sample_rate", expected=expected, got=None)
    try:
        return AudioFormat(encoding, request.sample_rate, 1).check(), None
    except InvalidFormat as error:
        raise BadRequest(field="sample_rate", expected=error.expected, got=request.sample_rate) from None


def _listed(name: str, text: str) -> list[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest(field=name, expected="a JSON list of strings", got=text) from None


def _fatal(malformed: Malformed) -> Malformed:
    """Return the error of a message that ends the session, as there. JSON that is not JSON has a code of its own."""
    is_json = "not JSON" not in malformed.message and "nested too deep" not in malformed.message
    code = malformed.code
    if code is ErrorCode.BAD_REQUEST and not is_json:
        code = ErrorCode.WRONG_FRAME_TYPE
    return replace(malformed, code=code, fatal=True)
