"""Credentials, closes and refusals as Deepgram's clients know them, and the identity of a request."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

import msgspec
from aiohttp import web

import streamer
from streamer.access import Carriers
from streamer.dialects.dialect import DialectContext
from streamer.errors import ErrorCode, StreamerError
from streamer.parts import ServedModel
from streamer.protocols.deepgram.listen import ListenIdentity
from streamer.protocols.deepgram.shared_query import ListenPolicy
from streamer.session.events import Mode
from streamer.transports.http import refusal
from streamer.transports.status_codes import CLOSE_CODES

REQUEST_ID = "dg-request-id"
"""Header that names the request."""
ERROR = "dg-error"
"""Header of a refusal, which clients can log without its body."""

CARRIERS = Carriers(schemes=("token", "bearer"), pairs=("token", "bearer"))
_POLICY_VIOLATION, _INTERNAL_ERROR = 1008, 1011

LISTEN_CLOSE_CODES: Mapping[ErrorCode, int] = MappingProxyType(
    {
        code: {4408: _INTERNAL_ERROR}.get(number, _POLICY_VIOLATION) if number >= 4000 else number
        for code, number in CLOSE_CODES.items()
    }
)
"""Close codes: those of Streamer's own have no meaning to Deepgram's clients."""
LISTEN_CLOSE_REASONS: Mapping[ErrorCode, str] = MappingProxyType(
    {
        ErrorCode.INVALID_AUDIO: "DATA-0000",
        ErrorCode.INVALID_FORMAT: "DATA-0000",
        ErrorCode.IDLE_TIMEOUT: "NET-0001",
        ErrorCode.INTERNAL: "NET-0000",
    }
)
_NAMES = {
    401: "INVALID_AUTH",
    403: "INSUFFICIENT_PERMISSIONS",
    429: "TOO_MANY_REQUESTS",
    503: "SERVICE_UNAVAILABLE",
}
"""Names of errors by their status; any other is a bad request, or an internal error."""


class RefusalBody(msgspec.Struct, frozen=True):
    """Body of a refusal before the upgrade."""

    err_code: str
    err_msg: str
    request_id: str


def policy_of(context: DialectContext, model: ServedModel) -> ListenPolicy:
    """Return the server's settings for requests to a model."""
    chosen = context.settings.dialects
    return ListenPolicy(
        context.session(Mode.SEGMENTED),
        chosen.min_silence_ms,
        model.known_options,
        model=model.name,
        refuse_ignored=chosen.unsupported_parameters == "refuse",
    )


def identity_of(request_id: str, at: float, model: str) -> ListenIdentity:
    """Return the identity of a request. `at`: seconds since 1970."""
    created = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    model_uuid = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{model}.streamer"))
    return ListenIdentity(request_id, created, model, model_uuid, streamer.__version__)


def refuse(error: StreamerError) -> web.Response:
    """Return the HTTP answer of an error, in Deepgram's form."""
    response = refusal(error)
    request_id = str(uuid.uuid4())
    name = _NAMES.get(response.status, "Bad Request" if response.status < 500 else "INTERNAL_SERVER_ERROR")
    response.body = msgspec.json.encode(RefusalBody(name, error.message, request_id))
    response.headers[REQUEST_ID] = request_id
    response.headers[ERROR] = "".join(char if " " <= char <= "~" else "?" for char in error.message)
    return response
