"""Transcripts of files: `POST /v1/listen` with the file as its body."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack

from aiohttp import web

from streamer.dialects.deepgram.answers import CARRIERS, REQUEST_ID, identity_of, policy_of, refuse
from streamer.dialects.deepgram.listen import LISTEN
from streamer.dialects.dialect import DialectContext
from streamer.dialects.recordings import RecordingAnswer, RecordingHandler, RecordingRequest, ignored_headers
from streamer.errors import BadRequest, StreamerError
from streamer.protocols.deepgram.file_answer import FileText
from streamer.protocols.deepgram.query import ListenFileRequest, read_file
from streamer.protocols.mixer import Mixer
from streamer.session.events import Segment
from streamer.session.summary import Summary
from streamer.transports.handshake import opening_of


class FileBody:
    """The audio of a request, which is hashed as it comes."""

    def __init__(self, request: web.Request, file_request: ListenFileRequest) -> None:
        self._content = request.content
        self._mixer = None if file_request.mixed is None else Mixer(file_request.mixed)
        self._hash = hashlib.sha256()
        self.is_empty = True
        """No byte has come."""

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    async def read(self, size: int) -> bytes:
        """Return at most `size` bytes of audio; none at the end."""
        while data := await self._content.read(size):
            self.is_empty = False
            self._hash.update(data)
            if audio := data if self._mixer is None else self._mixer.push(data):
                return audio
        return b""


class FileAnswer(RecordingAnswer):
    """Answers with the whole transcript."""

    def __init__(self, text: FileText, body: FileBody, request_id: str, file_request: ListenFileRequest) -> None:
        self._text = text
        self._body = body
        self._request_id = request_id
        self._file_request = file_request

    async def add_final(self, segment: Segment) -> None:
        if not self._text.add(segment):
            self.fail(BadRequest(field="model", expected="a model whose results are transcripts", got="other results"))

    async def finish(self, summary: Summary) -> web.StreamResponse:
        if self._body.is_empty:
            return refuse(BadRequest(field="body", expected="audio", got="no bytes"))
        channels = 1 if self._file_request.start.media is not None else self._file_request.start.format.channels
        return web.Response(
            body=self._text.body(summary.received_s, channels, self._body.sha256),
            content_type="application/json",
            headers={REQUEST_ID: self._request_id, **ignored_headers(self._file_request.ignored)},
        )

    async def refuse(self, error: StreamerError) -> web.StreamResponse:
        return refuse(error)


def file_route(context: DialectContext) -> web.RouteDef:
    """Return the route of files."""
    policies = {model.name: policy_of(context, model) for model in context.models}

    async def read(request: web.Request, _: ExitStack) -> RecordingRequest:
        if request.content_type == "application/json":
            expected = "audio in the body, because this server fetches nothing from other addresses"
            raise BadRequest(field="url", expected=expected, got="JSON")
        opening = opening_of(request, context.door)
        model = context.model_of(opening, request.query.getall("model", [""])[-1])
        file_request = read_file(opening.query, policies[model.name])
        identity = identity_of(opening.id, opening.at, model.name)
        body = FileBody(request, file_request)
        answer = FileAnswer(
            FileText(file_request, identity, model.sample_rate), body, identity.request_id, file_request
        )
        return RecordingRequest(file_request.start, body.read, answer, file_request.ignored, model.name)

    handler = RecordingHandler(context, "deepgram", read, carriers=CARRIERS, refusal=refuse)
    return web.post(LISTEN, handler.handle)
