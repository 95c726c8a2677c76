"""Temporary tokens of AssemblyAI's clients: `GET /v3/token`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_urlsafe

from aiohttp import web

from streamer.access import Carriers, Identity
from streamer.access.authenticator import Forbidden
from streamer.access.factory import read_secrets
from streamer.access.tokens import Claims, mint
from streamer.dialects.dialect import DialectContext
from streamer.dialects.recordings import authenticate
from streamer.errors import BadRequest, StreamerError
from streamer.protocols.parameters import Parameters

PATH = "/v3/token"
MAX_USE_S, MIN_SESSION_S, MAX_SESSION_S = 600, 60, 10_800
"""Bounds of the service: seconds in which a token may be used, and seconds of its session."""


@dataclass(frozen=True, slots=True)
class TemporaryTokens:
    """Issues single-use tokens for the subject of a key. `secret`: signs them; None for a server without secrets."""

    context: DialectContext
    carriers: Carriers
    refusal: Callable[[StreamerError], web.Response]
    secret: bytes | None

    async def issue(self, request: web.Request) -> web.Response:
        """Answer with a token."""
        try:
            identity = await authenticate(request, self.context.door, self.carriers)
            token, use_s = self._issued(identity, Parameters(tuple(request.query.items())))
        except StreamerError as error:
            return self.refusal(error)
        body = {"token": token, "expires_in_seconds": use_s}
        return web.json_response(body, headers={"Cache-Control": "no-store"})

    def _issued(self, identity: Identity | None, parameters: Parameters) -> tuple[str, int]:
        """Return a token and the seconds in which it may be used. Raises StreamerError."""
        if self.secret is None or identity is None:
            raise BadRequest(
                "temporary tokens are not available: the operator has to set access.token_secrets_file (`streamer "
                "token secret` prints a line of it) and access.keys"
            )
        if identity.expires_at is not None:
            raise Forbidden("a temporary token is issued for a key: send the key, not another token")
        most = self.context.settings.access.max_token_life_s
        use_s = parameters.integer("expires_in_seconds", 1, min(MAX_USE_S, most))
        if use_s is None:
            raise BadRequest(field="expires_in_seconds", expected=f"seconds from 1 to {MAX_USE_S}", got=None)
        session_s = parameters.integer("max_session_duration_seconds", MIN_SESSION_S, MAX_SESSION_S)
        left_s = most - use_s
        if session_s is not None and session_s > left_s:
            expected = f"at most {left_s} beside expires_in_seconds={use_s} (access.max_token_life_s)"
            raise BadRequest(field="max_session_duration_seconds", expected=expected, got=session_s)
        now, grant = int(self.context.door.wall_clock()), identity.limits
        lengths = [length for length in (session_s, grant.max_stream_s) if length is not None]
        claims = Claims(
            identity.subject,
            token_urlsafe(16),
            now,
            now + use_s + (min(MAX_SESSION_S, left_s) if session_s is None else session_s),
            once=True,
            max_sessions=grant.max_sessions,
            max_stream_s=min(lengths, default=None),
            use_by=now + use_s,
        )
        return mint(claims, self.secret), use_s


def token_routes(
    context: DialectContext, carriers: Carriers, refusal: Callable[[StreamerError], web.Response]
) -> tuple[web.RouteDef, ...]:
    """Return the route of temporary tokens. Raises ConfigError for a file of secrets that cannot be read."""
    file = context.settings.access.token_secrets_file
    issuer = TemporaryTokens(context, carriers, refusal, read_secrets(file)[0] if file else None)
    return (web.get(PATH, issuer.issue),)
