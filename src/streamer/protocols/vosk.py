"""The codec of vosk-server: one answer to each message of audio, for clients that wait for it before they go on."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import msgspec

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode, InvalidFormat
from streamer.protocols.codec import Reply
from streamer.protocols.message_reader import MAX_AUDIO_BYTES, MAX_CONTROL_BYTES, MessageReader, unsupported_format
from streamer.protocols.small_messages import SmallMessages
from streamer.protocols.transcript import transcript_of
from streamer.session import events
from streamer.session.events import Event, FinishReason
from streamer.session.messages import Flush, KeepAlive, Malformed, Message, Start, Stop
from streamer.transcripts.transcript import Transcript, Word

Frame = str | bytes

DEFAULT_SAMPLE_RATE = 8_000
INTERIM_MS = 200
PROGRESS_MS = 30
LAG_S = 0.1
"""Seconds of audio at the end of a message that need not be scored before it is answered: an incomplete window, and the
delay of the resampler."""
_RESET = math.inf
_EXPECTED = 'expected {"config": {...}}, {"eof": 1} or {"reset": 1}; audio belongs in binary messages'


class VoskConfig(msgspec.Struct, frozen=True):
    """The part of a client's `config` that has an effect. `sample_rate` in Hz."""

    sample_rate: float | None = None
    words: bool | int | None = None
    max_alternatives: int | None = None


class VoskMessage(msgspec.Struct, frozen=True):
    """A text message of a client: one of these."""

    config: VoskConfig | None = None
    eof: bool | int = 0
    reset: bool | int = 0


class Vosk:
    """Codec of one connection. `sample_rate`: of the model in Hz, the unit of event positions.

    Each message of audio gets one answer, when speech detection has processed its audio and the finals of all speech
    that ended in it have come. The answer is the oldest final that was not sent, or else the latest interim. The answer
    to `eof` and to `reset` is all other finals in one.
    """

    name: ClassVar[str] = "vosk"
    joins_audio: ClassVar[bool] = False
    ends_with_connection: ClassVar[bool] = False

    def __init__(
        self,
        sample_rate: int,
        *,
        max_control_bytes: int = MAX_CONTROL_BYTES,
        max_audio_message_bytes: int = MAX_AUDIO_BYTES,
    ) -> None:
        self._model_rate = sample_rate
        self._reader: MessageReader[VoskMessage] = MessageReader(
            VoskMessage,
            "config, eof, reset",
            max_control_bytes=max_control_bytes,
            max_audio_message_bytes=max_audio_message_bytes,
        )
        self._encoder = msgspec.json.Encoder()
        self._rate = DEFAULT_SAMPLE_RATE
        self._has_words = True
        self._has_alternatives = False
        self._is_started = self._is_ended = False
        self._small = SmallMessages()
        self._received = 0
        """Bytes of audio."""
        self._position = LAG_S * sample_rate
        """Position up to which a message may end to be answered, in samples at the model's rate."""
        self._owed: deque[float] = deque()
        """Ends of the messages without an answer, in samples at the model's rate; infinite for a reset."""
        self._pending = 0
        """Utterances that have ended and whose final has not come."""
        self._finals: deque[Transcript] = deque()
        self._interim = ""

    def begin(self) -> tuple[()]:
        return ()

    def decode(self, frame: Frame) -> Message | list[Message | Reply[Frame]]:  # noqa: PLR0911 (one per message)
        if self._is_ended:
            return []
        if not isinstance(frame, str):
            return self._audio(frame)
        message = self._reader.text(frame)
        if isinstance(message, Malformed):
            return replace(message, fatal=True)
        if message.config is not None:
            return self._configure(message.config)
        if message.eof:
            self._is_ended = True
            return [*self._start(), Stop()]
        if message.reset:
            self._owed.append(_RESET)
            return [*self._start(), Flush()]
        return Malformed(ErrorCode.BAD_REQUEST, _EXPECTED, fatal=True)

    def encode(self, event: Event) -> list[Reply[Frame]] | None:
        match event:
            case events.Progress(position=position):
                self._position = position + LAG_S * self._model_rate
            case events.SpeechEnded():
                self._pending += 1
            case events.Segment(is_final=False):
                transcript = transcript_of(event.output)
                self._interim = transcript.text if transcript is not None else ""
            case events.Segment():
                self._resolve(transcript_of(event.output))
            case events.ErrorEvent(start=int()):
                self._resolve(None)
            case events.Flushed():
                return self._answer_reset()
            case events.Finished():
                return self._finish(event.reason)
            case _:
                return None
        return self._answer_due()

    def _audio(self, frame: bytes) -> Message | list[Message | Reply[Frame]]:
        audio = self._reader.audio(frame)
        if isinstance(audio, Malformed):
            return audio
        if (refusal := self._small.take(len(frame))) is not None:
            return refusal
        self._received += len(audio.data)
        self._owed.append(self._received // 2 * self._model_rate / self._rate)
        steps: list[Message | Reply[Frame]] = [*self._start(), audio]
        due = self._answer_due()
        return [*steps, *due] if due or len(steps) > 1 else audio

    def _start(self) -> Sequence[Message]:
        if self._is_started:
            return ()
        self._is_started = True
        format_ = AudioFormat(Encoding.PCM_S16LE, self._rate, 1)
        return (Start(format_, interim_results=True, interim_interval_ms=INTERIM_MS, progress_ms=PROGRESS_MS),)

    def _configure(self, config: VoskConfig) -> Message | list[Message | Reply[Frame]]:
        """Apply a configuration. The sample rate has no effect once audio has come."""
        if config.words is not None:
            self._has_words = bool(config.words)
        if config.max_alternatives is not None:
            self._has_alternatives = config.max_alternatives > 0
        if config.sample_rate is not None and not self._is_started:
            try:
                self._rate = AudioFormat(Encoding.PCM_S16LE, _whole(config.sample_rate), 1).check().sample_rate
            except InvalidFormat as error:
                return unsupported_format(error)
        return KeepAlive()

    def _resolve(self, transcript: Transcript | None) -> None:
        """Note a final, or that none follows."""
        self._pending = max(0, self._pending - 1)
        self._interim = ""
        if transcript is not None:
            self._finals.append(transcript)

    def _answer_due(self) -> list[Reply[Frame]]:
        """Answer the messages whose audio was processed, while no final is pending."""
        answers = []
        while self._owed and self._owed[0] <= self._position and not self._pending:
            self._owed.popleft()
            answers.append(self._answer())
        return answers

    def _answer(self) -> Reply[Frame]:
        return self._final([self._finals.popleft()]) if self._finals else self._reply({"partial": self._interim})

    def _answer_reset(self) -> list[Reply[Frame]]:
        answers = []
        while self._owed and self._owed[0] != _RESET:
            self._owed.popleft()
            answers.append(self._answer())
        if self._owed:
            self._owed.popleft()
            answers.append(self._rest())
        return [*answers, *self._answer_due()]

    def _finish(self, reason: FinishReason) -> list[Reply[Frame]]:
        answers = [self._answer() for _ in range(len(self._owed))]
        self._owed.clear()
        if self._finals or reason is FinishReason.STOPPED:
            answers.append(self._rest())
        return answers

    def _rest(self) -> Reply[Frame]:
        """Return all finals that were not sent, in one."""
        finals = list(self._finals)
        self._finals.clear()
        return self._final(finals)

    def _final(self, finals: Sequence[Transcript]) -> Reply[Frame]:
        text = " ".join(final.text for final in finals if final.text)
        words = [word for final in finals for word in final.words] if self._has_words else []
        if not self._has_alternatives:
            return self._reply({"result": list(map(_timed, words)), "text": text} if words else {"text": text})
        confidences = [final.confidence for final in finals if final.confidence is not None]
        best: dict[str, Any] = {"text": text, "confidence": min(confidences, default=1.0)}
        if words:
            best["result"] = list(map(_timed, words))
        return self._reply({"alternatives": [best]})

    def _reply(self, value: dict[str, Any]) -> Reply[Frame]:
        return Reply(self._encoder.encode(value).decode())


def _timed(word: Word) -> dict[str, Any]:
    confidence = 1.0 if word.confidence is None else word.confidence
    return {"conf": confidence, "start": word.start_time, "end": word.end_time, "word": word.word}


def _whole(rate: float) -> int:
    """Return a rate as an integer, or one that no format has."""
    return int(rate) if math.isfinite(rate) and rate == int(rate) else -1
