"""Transcripts of files: `POST /v1/audio/transcriptions` with a form, and `/v1/audio/translations`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from aiohttp import web

from streamer.clock import timeout
from streamer.dialects.dialect import DialectContext
from streamer.dialects.openai.answers import CARRIERS, StreamedAnswer, WholeAnswer, check_ignored, floor_of, refused
from streamer.dialects.recordings import RecordingHandler, RecordingRequest, temporary_file
from streamer.errors import BadRequest, ErrorCode, StreamerError
from streamer.media.formats import Container, MediaFormat, provisional
from streamer.parts import ServedModel
from streamer.protocols.openai.file_answer import TRANSLATE, FileTranscript
from streamer.protocols.openai.file_request import read_request
from streamer.protocols.openai.form import FormField, FormFile, FormReader
from streamer.session.messages import Start
from streamer.transports.handshake import opening_of

PATHS = {"transcribe": "/v1/audio/transcriptions", TRANSLATE: "/v1/audio/translations"}
_TRANSLATOR = "a model that translates, such as whisper:small"
_READ_BYTES = 64 * 1024
_FORM_BYTES = 1024 * 1024
"""Bytes of a form besides its file."""


@dataclass(frozen=True, slots=True)
class FormIntake:
    """Reads forms with a file, and begins their transcripts."""

    context: DialectContext
    task: str

    async def read(self, request: web.Request, stack: ExitStack) -> RecordingRequest:
        """Read the whole form, because its fields may follow the file. Raises StreamerError, naming the field."""
        translates = self.task == TRANSLATE
        if translates and not any("task" in model.known_options for model in self.context.models):
            raise BadRequest(field="model", expected=_TRANSLATOR, got=self.context.model.name)
        limits = self.context.settings.limits
        file = temporary_file(stack, limits.max_spool_bytes)
        reader = FormReader(request.headers.get("Content-Type", ""))
        fields: list[tuple[str, str]] = []
        current = ""
        has_file = False
        received = 0
        while data := await self._next(request):
            received += len(data)
            if received > limits.max_spool_bytes + _FORM_BYTES:
                raise _too_big(limits.max_spool_bytes)
            for item in reader.push(data):
                if isinstance(item, FormField):
                    fields.append((item.name, item.value))
                elif isinstance(item, FormFile):
                    current = item.name
                    if current == "file" and has_file:
                        raise BadRequest(field="file", expected="one file", got="two")
                    has_file = has_file or current == "file"
                elif current == "file":
                    if file.tell() + len(item) > limits.max_spool_bytes:
                        raise _too_big(limits.max_spool_bytes)
                    file.write(item)
        reader.finish()
        model = self._model_of(request, fields)
        file_request = read_request(fields, model.name, model.known_options, translate=translates)
        if not has_file or not file.tell():
            raise BadRequest(field="file", expected="a file with audio", got="no bytes" if has_file else "no file")
        check_ignored(file_request.ignored, self.context)
        file.seek(0)

        async def body(size: int) -> bytes:
            return file.read(size)

        transcript = FileTranscript(file_request, model.sample_rate, task=self.task)
        answer = StreamedAnswer(transcript, request) if file_request.is_stream else WholeAnswer(transcript)
        vad = floor_of(self.context).raised(file_request.vad)
        start = Start(
            provisional(), vad=vad, options=file_request.options, media=MediaFormat(Container.AUTO, downmix=True)
        )
        return RecordingRequest(start, body, answer, model=model.name)

    def _model_of(self, request: web.Request, fields: Sequence[tuple[str, str]]) -> ServedModel:
        """Return the model of a form. Raises BadRequest for one that does not do its task."""
        opening = opening_of(request, self.context.door)
        model = self.context.model_of(opening, dict(fields).get("model", "").strip())
        if self.task == TRANSLATE and "task" not in model.known_options:
            raise BadRequest(field="model", expected=_TRANSLATOR, got=model.name)
        return model

    async def _next(self, request: web.Request) -> bytes:
        """Return the next bytes of the body, or none at its end. Raises StreamerError for a client that is silent."""
        limit_s = self.context.settings.limits.idle_timeout_s
        try:
            async with timeout(self.context.manager.services.clock, limit_s):
                return await request.content.read(_READ_BYTES)
        except TimeoutError:
            text = f"no bytes of the form were received for {limit_s:g} s"
            raise StreamerError(text, code=ErrorCode.IDLE_TIMEOUT) from None
        except (ConnectionError, web.RequestPayloadError):
            raise BadRequest("the form is incomplete: the connection ended") from None


def file_routes(context: DialectContext) -> list[web.RouteDef]:
    """Return the routes of files."""
    routes = []
    for task, path in PATHS.items():
        intake = FormIntake(context, task)
        handler = RecordingHandler(context, "openai", intake.read, carriers=CARRIERS, refusal=refused)
        routes.append(web.post(path, handler.handle))
    return routes


def _too_big(limit: int) -> StreamerError:
    text = f"file: expected at most {limit} bytes (limits.max_spool_bytes), got more"
    return StreamerError(text, code=ErrorCode.MESSAGE_TOO_BIG)
