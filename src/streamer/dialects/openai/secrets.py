"""Client secrets for browsers: `POST /v1/realtime/client_secrets`, and the beta's `transcription_sessions`."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from secrets import token_urlsafe

import msgspec
from aiohttp import web

from streamer.access import Identity
from streamer.access.authenticator import Forbidden
from streamer.access.factory import read_secrets
from streamer.access.tokens import Claims, mint
from streamer.clock import timeout
from streamer.dialects.dialect import DialectContext
from streamer.dialects.openai.answers import CARRIERS, floor_of, refused
from streamer.dialects.recordings import authenticate
from streamer.errors import BadRequest, ErrorCode, StreamerError
from streamer.protocols.openai.client_secret import DEFAULT_LIFE_S, SecretRequest, read_secret_request, secret_body
from streamer.protocols.openai.realtime_session import RealtimeSettings
from streamer.protocols.openai.realtime_wire import Transcription

PATH, BETA_PATH = "/v1/realtime/client_secrets", "/v1/realtime/transcription_sessions"


@dataclass(frozen=True, slots=True)
class SecretIssuer:
    """Issues tokens for the subject of a key. `secret`: signs them; None if the server has no file of secrets."""

    context: DialectContext
    secret: bytes | None

    async def issue(self, request: web.Request) -> web.Response:
        """Answer in GA shape."""
        return await self._answer(request, is_beta=False)

    async def issue_to_beta(self, request: web.Request) -> web.Response:
        """Answer in the beta's shape."""
        return await self._answer(request, is_beta=True)

    async def _answer(self, request: web.Request, *, is_beta: bool) -> web.Response:
        try:
            identity = await authenticate(request, self.context.door, CARRIERS)
            body = await self._issued(identity, await self._body(request), is_beta=is_beta)
        except StreamerError as error:
            return refused(error)
        headers = {"Cache-Control": "no-store"}
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def _issued(self, identity: Identity | None, body: bytes, *, is_beta: bool) -> bytes:
        if self.secret is None or identity is None:
            raise BadRequest(
                "client secrets are not available: the operator has to set access.token_secrets_file (`streamer token "
                "secret` prints a line of it) and access.keys"
            )
        if identity.expires_at is not None:
            raise Forbidden("a client secret is issued for a key: send the key, not another client secret or token")
        secret_request = _read(body, is_beta=is_beta)
        # The beta's clients know the names of three models only.
        first = RealtimeSettings(transcription=None if is_beta else Transcription(self.context.model.name))
        settings = first.updated(secret_request.session, self.context.settings.limits, floor_of(self.context))
        now = int(self.context.door.wall_clock())
        expires_at = now + self._life_s(secret_request)
        grant = identity.limits
        claims = Claims(
            identity.subject,
            token_urlsafe(16),
            now,
            expires_at,
            max_sessions=grant.max_sessions,
            max_stream_s=grant.max_stream_s,
        )
        return secret_body(mint(claims, self.secret), expires_at, uuid.uuid4().hex, settings, is_beta=is_beta)

    def _life_s(self, secret_request: SecretRequest) -> int:
        """Return the life of a token in seconds. Raises BadRequest for one that the server would not accept."""
        most = self.context.settings.access.max_token_life_s
        seconds = secret_request.expires_after.seconds
        if seconds is None:
            return min(DEFAULT_LIFE_S, most)
        if seconds > most:
            expected = f"at most {most} (access.max_token_life_s)"
            raise BadRequest(field="expires_after.seconds", expected=expected, got=seconds)
        return seconds

    async def _body(self, request: web.Request) -> bytes:
        """Return the body of a request. Raises StreamerError if it is too long or too slow."""
        most, data = self.context.settings.limits.max_control_bytes, b""
        try:
            async with timeout(self.context.manager.services.clock, self.context.settings.server.handshake_timeout_s):
                while part := await request.content.read(most):
                    data += part
                    if len(data) > most:
                        text = f"expected a body of at most {most} bytes, got more"
                        raise StreamerError(text, code=ErrorCode.MESSAGE_TOO_BIG)
        except TimeoutError:
            raise StreamerError("the body did not arrive in time", code=ErrorCode.IDLE_TIMEOUT) from None
        except (ConnectionError, web.RequestPayloadError):
            raise BadRequest("the body is incomplete: the connection ended") from None
        return data


def secret_routes(context: DialectContext) -> list[web.RouteDef]:
    """Return the routes of client secrets. Raises ConfigError for a file of secrets that cannot be read."""
    file = context.settings.access.token_secrets_file
    issuer = SecretIssuer(context, read_secrets(file)[0] if file else None)
    return [web.post(PATH, issuer.issue), web.post(BETA_PATH, issuer.issue_to_beta)]


def _read(body: bytes, *, is_beta: bool) -> SecretRequest:
    try:
        return read_secret_request(body, is_beta=is_beta)
    except RecursionError:
        raise BadRequest("the body: JSON is nested too deep") from None
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        raise BadRequest(
            field=path.rstrip("`") or "body", expected=text.removeprefix("Expected "), got="another"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest(field="body", expected="JSON", got=body[:40]) from None
