"""The transcript of a file in OpenAI's formats, from the finals of a stream."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec

from streamer.protocols.openai.file_request import FileRequest, ResponseFormat
from streamer.protocols.openai.languages import language_name
from streamer.protocols.transcript import transcript_of
from streamer.session.events import Segment
from streamer.transcripts.formats import FORMATS, Part
from streamer.transcripts.transcript import Transcript, Word

MEDIA_TYPES: Mapping[ResponseFormat, str] = MappingProxyType(
    {
        ResponseFormat.JSON: "application/json",
        ResponseFormat.VERBOSE_JSON: "application/json",
        ResponseFormat.TEXT: "text/plain",
        ResponseFormat.SRT: "application/x-subrip",
        ResponseFormat.VTT: "text/vtt",
    }
)
TRANSLATE = "translate"
"""The task of a translation into English."""
DONE = b"data: [DONE]\n\n"
"""The last server-sent event."""


@dataclass(slots=True)
class FileTranscript:
    """The finals of one file in their order. `sample_rate` in Hz: of the model, the unit of positions."""

    request: FileRequest
    sample_rate: int
    task: str = "transcribe"
    parts: list[Part] = field(default_factory=list)
    _transcripts: list[Transcript] = field(default_factory=list)

    def add(self, segment: Segment) -> str | None:
        """Add a final; return the text that it appends, or None if the result is no transcript."""
        transcript = transcript_of(segment.output)
        if transcript is None:
            return None
        before = any(part.text for part in self.parts)
        self.parts.append(Part.of(transcript, self._seconds(segment.start), self._seconds(segment.end)))
        self._transcripts.append(transcript)
        return f" {transcript.text}" if before and transcript.text else transcript.text

    @property
    def text(self) -> str:
        """The whole text, of finals joined by spaces."""
        return " ".join(part.text for part in self.parts if part.text)

    def body(self, duration_s: float) -> str:
        """Return the body of the response. `duration_s`: seconds of the file's audio."""
        match self.request.format:
            case ResponseFormat.JSON:
                return _json({"text": self.text, **self._logprobs(), "usage": _usage(duration_s)})
            case ResponseFormat.TEXT:
                return f"{self.text}\n"
            case ResponseFormat.VERBOSE_JSON:
                return _json(self._verbose(duration_s))
            case captions:
                return FORMATS[captions.value](self.parts)

    def delta(self, text: str) -> bytes:
        """Return the event of appended text."""
        return _event({"type": "transcript.text.delta", "delta": text})

    def done(self) -> bytes:
        """Return the event of the whole text, and the end of the events."""
        return _event({"type": "transcript.text.done", "text": self.text, **self._logprobs()}) + DONE

    def _verbose(self, duration_s: float) -> dict[str, Any]:
        request = self.request
        spoken = next((each.language for each in self._transcripts if each.language), None) or request.language
        verbose: dict[str, Any] = {
            "task": self.task,
            "language": language_name("en" if self.task == TRANSLATE else spoken),
            "duration": round(duration_s, 3),
            "text": self.text,
            "usage": _usage(duration_s),
        }
        if request.has_segments:
            verbose["segments"] = [self._segment(index) for index in range(len(self.parts))]
        if request.has_words:
            verbose["words"] = [
                {"word": word.word, "start": word.start_time, "end": word.end_time}
                for part in self.parts
                for word in part.words
            ]
        return verbose

    def _segment(self, index: int) -> dict[str, Any]:
        """Return a segment with the fields that clients require; those that the model does not tell are neutral."""
        part, extra = self.parts[index], self._transcripts[index].extra
        return {
            "id": index,
            "seek": round(part.start_time * 100),
            "start": part.start_time,
            "end": part.end_time,
            "text": part.text,
            "tokens": [],
            "temperature": 0.0,
            "avg_logprob": _number(extra, "avg_logprob", 0.0),
            "compression_ratio": _number(extra, "compression_ratio", 1.0),
            "no_speech_prob": _number(extra, "no_speech_prob", 0.0),
        }

    def _logprobs(self) -> dict[str, Any]:
        if not self.request.has_logprobs:
            return {}
        return {"logprobs": logprobs([word for part in self.parts for word in part.words])}

    def _seconds(self, position: int) -> float:
        return round(position / self.sample_rate, 3)


def logprobs(words: Sequence[Word]) -> list[dict[str, Any]]:
    """Return the log probabilities of words, which stand for tokens, from their confidences."""
    return [
        {
            "token": word.word,
            "bytes": list(word.word.encode()),
            "logprob": round(math.log(min(1.0, max(word.confidence, 1e-9))), 6),
        }
        for word in words
        if word.confidence is not None
    ]


def stream_fault(body: bytes) -> bytes:
    """Return the server-sent event of an error, from the body that a response would have."""
    return b"data: " + body + b"\n\n"


def _usage(duration_s: float) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(duration_s)}


def _number(values: Mapping[str, Any], name: str, default: float) -> float:
    value = values.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"
