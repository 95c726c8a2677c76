"""Answers to an upload: its events as they come, or a transcript as a file once all of them have come."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from aiohttp import web

from streamer.errors import BadRequest, ErrorCode, StreamerError
from streamer.transcripts.formats import FORMATS, Part
from streamer.transcripts.transcript import read_transcript
from streamer.transports.http import refusal

_MAX_HELD = 1_000
"""Events that may wait for the first one that decides about the status."""
_TYPES = {
    "txt": "text/plain",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "json": "application/json",
    "tsv": "text/tab-separated-values",
}
"""Media types of transcripts, by format."""


class _Head(msgspec.Struct):
    """The part of an event that decides about the answer."""

    type: str
    code: str = ""
    message: str = ""
    fatal: bool = False
    is_final: bool = False
    start_time: float = 0.0
    end_time: float = 0.0
    output: Any = None

    def refused(self) -> web.Response:
        """Return the answer for an error."""
        return refusal(StreamerError(self.message, code=ErrorCode(self.code)))


class UploadAnswer(Protocol):
    """Makes the answer from the events of a stream."""

    response: web.StreamResponse | None
    """None until the status is known."""

    async def add(self, frame: str) -> bool:
        """Add an event as JSON. Return False if the answer is complete, and no more events are wanted."""
        ...

    async def end(self) -> None:
        """Complete the answer."""
        ...


class EventAnswer:
    """Writes each event as it comes: a line of JSON, or a server-sent event if the client accepts those."""

    def __init__(self, request: web.Request) -> None:
        self.response: web.StreamResponse | None = None
        self._request = request
        self._held: list[str] = []
        self._is_sse = "text/event-stream" in request.headers.get("Accept", "")

    async def add(self, frame: str) -> bool:
        """Write an event. Events before the first result or error wait for it."""
        if self.response is None:
            head = msgspec.json.decode(frame, type=_Head)
            if head.type in ("started", "ack") and len(self._held) < _MAX_HELD:
                self._held.append(frame)
                return True
            if head.type == "error" and head.fatal:
                self.response = head.refused()
                return True
        await self._begin()
        assert self.response is not None
        await self.response.write(self._line(frame))
        return True

    async def end(self) -> None:
        if self.response is None:
            await self._begin()

    async def _begin(self) -> None:
        if self.response is not None:
            return
        kind = "text/event-stream" if self._is_sse else "application/x-ndjson"
        self.response = web.StreamResponse(headers={"Content-Type": kind, "Cache-Control": "no-store"})
        self.response.force_close()
        await self.response.prepare(self._request)
        for event in self._held:
            await self.response.write(self._line(event))
        self._held.clear()

    def _line(self, frame: str) -> bytes:
        return (f"data: {frame}\n\n" if self._is_sse else f"{frame}\n").encode()


class TranscriptAnswer:
    """Collects the finals of a stream, and answers with its transcript in one format.

    An error at any time is the whole answer, so that no part of a transcript is missing without notice.
    """

    def __init__(self, format: str) -> None:
        self.response: web.StreamResponse | None = None
        self._format = format
        self._parts: list[Part] = []

    async def add(self, frame: str) -> bool:
        head = msgspec.json.decode(frame, type=_Head)
        if head.type == "error":
            self.response = self.response or head.refused()
            return head.fatal
        if head.type != "segment" or not head.is_final:
            return True
        transcript = read_transcript(head.output)
        if transcript is None:
            expected = "a model whose results are transcripts (or no format, for its results as they are)"
            self.response = refusal(BadRequest(field="format", expected=expected, got=_preview(head.output)))
            return False
        self._parts.append(Part.of(transcript, head.start_time, head.end_time))
        return True

    async def end(self) -> None:
        if self.response is None:
            text = FORMATS[self._format](self._parts)
            self.response = web.Response(text=text, content_type=_TYPES[self._format], charset="utf-8")


def answer_to(request: web.Request) -> UploadAnswer:
    """Return the answer that a request's query asks for. Raises BadRequest."""
    format_ = request.query.get("format")
    if format_ is None:
        return EventAnswer(request)
    if format_ not in FORMATS:
        raise BadRequest(field="format", expected=f"one of {', '.join(FORMATS)}", got=format_)
    return TranscriptAnswer(format_)


def _preview(output: Any) -> str:
    return msgspec.json.encode(output).decode()[:60]
