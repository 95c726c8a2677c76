"""Client secrets: what a caller may ask for, and the answer, in GA and beta shapes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from streamer.protocols.openai.realtime_session import RealtimeSettings
from streamer.protocols.openai.realtime_wire import SessionPatch

DEFAULT_LIFE_S = 600
_Seconds = Annotated[int, msgspec.Meta(ge=10, le=7_200)]


class ExpiresAfter(msgspec.Struct, frozen=True):
    """Life of a secret in seconds."""

    anchor: Literal["created_at"] = "created_at"
    seconds: _Seconds | None = None


class SecretRequest(msgspec.Struct, frozen=True):
    """Body of `POST /v1/realtime/client_secrets`."""

    expires_after: ExpiresAfter = ExpiresAfter()
    session: SessionPatch = SessionPatch()


class _BetaSecret(msgspec.Struct, frozen=True):
    expires_at: ExpiresAfter = ExpiresAfter()


class _BetaRequest(SessionPatch, frozen=True):
    client_secret: _BetaSecret = _BetaSecret()


def read_secret_request(body: bytes, *, is_beta: bool) -> SecretRequest:
    """Return the request of a body, which may be empty. Raises msgspec.DecodeError or UnicodeDecodeError."""
    if not is_beta:
        return msgspec.json.decode(body or b"{}", type=SecretRequest)
    request = msgspec.json.decode(body or b"{}", type=_BetaRequest)
    return SecretRequest(request.client_secret.expires_at, request)


def secret_body(value: str, expires_at: int, id: str, settings: RealtimeSettings, *, is_beta: bool) -> bytes:
    """Return the answer. `expires_at`: seconds since 1970. `id`: of the session that the settings are shown for."""
    session: dict[str, Any] = {"id": f"sess_{id}", **(settings.shown_to_beta() if is_beta else settings.shown())}
    secret = {"value": value, "expires_at": expires_at}
    return msgspec.json.encode({**session, "client_secret": secret} if is_beta else {**secret, "session": session})
