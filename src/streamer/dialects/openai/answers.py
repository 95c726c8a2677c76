"""Answers to a file: a transcript in one piece, or server-sent events; and errors in OpenAI's shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from http import HTTPStatus

from aiohttp import web

from streamer.access import Carriers
from streamer.dialects.dialect import DialectContext
from streamer.dialects.recordings import RecordingAnswer, ignored_headers
from streamer.errors import BadRequest, ErrorCode, StreamerError
from streamer.protocols.openai.faults import RequestFault, fault_body
from streamer.protocols.openai.file_answer import MEDIA_TYPES, FileTranscript, stream_fault
from streamer.protocols.openai.file_request import TurnFloor
from streamer.session.events import Segment
from streamer.session.summary import Summary
from streamer.transports.status_codes import HTTP_STATUS

CARRIERS = Carriers(headers=("api-key",), prefix="openai-insecure-api-key.")
"""`Authorization: Bearer KEY`; `api-key` of Azure's clients; a subprotocol from browsers."""
_FINAL_ERRORS = frozenset({ErrorCode.MODEL_ERROR})
"""Errors of the server that the same request would cause again."""


def refused(error: StreamerError) -> web.Response:
    """Return the response for an error. Clients send a request again after 408, 409, 429 and 5xx."""
    response = web.Response(
        body=fault_body(RequestFault.of_request(error)), status=HTTP_STATUS[error.code], content_type="application/json"
    )
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if error.code in _FINAL_ERRORS:
        response.headers["X-Should-Retry"] = "false"
    if response.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


class WholeAnswer(RecordingAnswer):
    """Answers with the transcript once all of it is there."""

    def __init__(self, transcript: FileTranscript) -> None:
        self.transcript = transcript

    async def add_final(self, segment: Segment) -> None:
        if self.transcript.add(segment) is None:
            self.fail(not_a_transcript())

    async def finish(self, summary: Summary) -> web.StreamResponse:
        request = self.transcript.request
        return web.Response(
            text=self.transcript.body(summary.received_s),
            content_type=MEDIA_TYPES[request.format],
            charset="utf-8",
            headers=ignored_headers(request.ignored),
        )

    async def refuse(self, error: StreamerError) -> web.StreamResponse:
        return refused(error)


class StreamedAnswer(RecordingAnswer):
    """Sends each final as it comes, as an event. The first event decides about the status."""

    def __init__(self, transcript: FileTranscript, request: web.Request) -> None:
        self.transcript = transcript
        self._request = request
        self._response: web.StreamResponse | None = None

    async def add_final(self, segment: Segment) -> None:
        text = self.transcript.add(segment)
        if text is None:
            self.fail(not_a_transcript())
        elif text:
            await self._write(self.transcript.delta(text))

    async def finish(self, summary: Summary) -> web.StreamResponse:
        return await self._write(self.transcript.done())

    async def refuse(self, error: StreamerError) -> web.StreamResponse:
        if self._response is None:
            return refused(error)
        return await self._write(stream_fault(fault_body(RequestFault.of_request(error))))

    async def _write(self, data: bytes) -> web.StreamResponse:
        if self._response is None:
            headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
            self._response = web.StreamResponse(headers=headers | ignored_headers(self.transcript.request.ignored))
            self._response.force_close()
            await self._response.prepare(self._request)
        await self._response.write(data)
        return self._response


def check_ignored(names: Sequence[str], context: DialectContext) -> None:
    """Raise BadRequest for parameters without effect if the server refuses those. Names of models are never refused."""
    refused_names = [name for name in names if name != "model"]
    if refused_names and context.settings.dialects.unsupported_parameters == "refuse":
        expected = "only parameters with an effect (dialects.unsupported_parameters is refuse)"
        raise BadRequest(field=refused_names[0], expected=expected, got=refused_names[0])


def floor_of(context: DialectContext) -> TurnFloor:
    """Return the least padding and silence that clients may ask for: the server's own padding, and its setting."""
    settings = context.settings
    return TurnFloor(round(settings.vad.pre_speech_pad_ms), settings.dialects.min_silence_ms)


def not_a_transcript() -> StreamerError:
    """Return the error for a result of the model that is no transcript."""
    return BadRequest(field="model", expected="a model whose results are transcripts", got="other results")
