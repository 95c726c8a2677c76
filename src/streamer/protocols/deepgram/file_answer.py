"""The transcript of a file, made of the finals of its stream."""

from __future__ import annotations

import msgspec

from streamer.protocols.codec import Timebase
from streamer.protocols.deepgram import file_wire as wire
from streamer.protocols.deepgram.listen import ListenIdentity
from streamer.protocols.deepgram.listen_wire import ListenAlternative, ListenModel
from streamer.protocols.deepgram.query import ListenFileRequest
from streamer.protocols.deepgram.words import CERTAIN, Speakers, alternative_of
from streamer.protocols.transcript import transcript_of
from streamer.session.events import Segment


class _Part(msgspec.Struct):
    """One final. `start`, `end` in seconds."""

    channel: int
    start: float
    end: float
    found: ListenAlternative
    language: str | None


class FileText:
    """Collects the finals of one file. `sample_rate`: of the model in Hz, the unit of event positions."""

    def __init__(self, request: ListenFileRequest, identity: ListenIdentity, sample_rate: int) -> None:
        self._request = request
        self._identity = identity
        self._clock = Timebase(sample_rate)
        self._speakers = Speakers() if request.diarizes else None
        self._parts: list[_Part] = []

    def add(self, segment: Segment) -> bool:
        """Add a final. Return False if it is not a transcript."""
        transcript = transcript_of(segment.output)
        if transcript is None:
            return False
        start, end = self._clock.seconds(segment.start), self._clock.seconds(segment.end)
        found = alternative_of(transcript, start, end, self._speakers, names_languages=self._request.is_multilingual)
        if found.transcript:
            self._parts.append(_Part(segment.channel, start, end, found, transcript.language))
        return True

    def body(self, duration_s: float, channels: int, sha256: str) -> bytes:
        """Return the answer as JSON. `channels`: of the file, at least those with speech."""
        identity = self._identity
        count = max(channels, *(part.channel + 1 for part in self._parts), 1)
        utterances = None
        if self._request.has_utterances:
            utterances = [self._utterance(part, at) for at, part in enumerate(sorted(self._parts, key=_by_start))]
        metadata = wire.FileMetadata(
            "deprecated",
            identity.request_id,
            sha256,
            identity.created,
            round(duration_s, 6),
            count,
            [identity.model_uuid],
            {identity.model_uuid: ListenModel(identity.model, identity.model_version)},
        )
        results = wire.FileResults([self._channel(index) for index in range(count)], utterances)
        return msgspec.json.encode(wire.FileResponse(metadata, results))

    def _channel(self, index: int) -> wire.FileChannel:
        parts = [part for part in self._parts if part.channel == index]
        words = [word for part in parts for word in part.found.words]
        text = " ".join(part.found.transcript for part in parts)
        confidence = sum(part.found.confidence for part in parts) / len(parts) if parts else 0.0
        languages = list(dict.fromkeys(name for part in parts for name in part.found.languages or ())) or None
        alternative = wire.FileAlternative(
            text,
            round(confidence, 6),
            words,
            languages,
            _paragraphs(parts) if self._request.has_paragraphs else None,
        )
        spoken = [part.language for part in parts if part.language is not None]
        most = max(spoken, key=spoken.count) if spoken and self._request.names_language else None
        return wire.FileChannel([alternative], most)

    def _utterance(self, part: _Part, at: int) -> wire.Utterance:
        speakers = [word.speaker for word in part.found.words if word.speaker is not None]
        return wire.Utterance(
            start=part.start,
            end=part.end,
            confidence=part.found.confidence or CERTAIN,
            channel=part.channel,
            transcript=part.found.transcript,
            words=part.found.words,
            speaker=max(speakers, key=speakers.count) if speakers else None,
            id=f"{self._identity.request_id}-{at}",
        )


def _by_start(part: _Part) -> tuple[float, int]:
    return part.start, part.channel


def _paragraphs(parts: list[_Part]) -> wire.Paragraphs:
    text = "\n\n".join(part.found.transcript for part in parts)
    return wire.Paragraphs(
        text,
        [
            wire.Paragraph(
                [wire.Sentence(part.found.transcript, part.start, part.end)],
                len(part.found.words),
                part.start,
                part.end,
            )
            for part in parts
        ],
    )
