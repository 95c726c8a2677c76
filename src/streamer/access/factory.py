"""Builds the access policy from the settings; the only place of access control that reads files and the clock."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

from streamer.access import (
    Authenticator,
    Identity,
    Key,
    KeyRing,
    Origins,
    ReplayStore,
    TokenReader,
    Verifier,
    is_loopback,
)
from streamer.access.tokens import parse_secrets
from streamer.config import AccessSettings, ServerSettings
from streamer.errors import ConfigError
from streamer.session.settings import SessionSettings

log = logging.getLogger(__name__)


def read_secrets(path: str) -> list[bytes]:
    """Return the secrets by which tokens are signed.

    Raises ConfigError, which names the file and shows nothing of it.
    """
    try:
        return parse_secrets(Path(path).read_text("utf-8"))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        reason = "expected UTF-8 text"
    except ConfigError as error:
        reason = error.message
    field = "access.token_secrets_file"
    raise ConfigError(f"{field}: {path}: {reason}", field=field)


def build_authenticator(
    settings: AccessSettings, used: ReplayStore | None = None, *, tls: bool = False
) -> Authenticator:
    """Build the access policy. Raises ConfigError.

    `used`: store of single-use tokens; None for one in this process. `tls`: the server itself speaks TLS.
    """
    keys = KeyRing(Key.parse(text) for text in settings.keys)
    tokens = None
    if settings.token_secrets_file:
        tokens = TokenReader(read_secrets(settings.token_secrets_file), max_life_s=settings.max_token_life_s)
    return Authenticator(
        Verifier(keys, tokens, used) if keys or tokens else None,
        time.time,
        Origins(settings.origins, tls=tls),
        accepts_auth_message=settings.first_message,
        refuse_after_upgrade=settings.refuse_after_upgrade,
    )


class MetricsPolicy(StrEnum):
    """Access policy of /metrics."""

    OPEN = "open"
    KEY = "key"
    CLOSED = "closed"
    """No access: the address is public, and no keys are set."""


def metrics_policy(settings: ServerSettings, authenticator: Authenticator) -> MetricsPolicy:
    """Return the effective policy of /metrics. Raises ConfigError if it needs a key and no keys are set."""
    if settings.metrics == "key" and not authenticator.required:
        expected = "auto or open, unless access.keys or access.token_secrets_file is set"
        raise ConfigError(field="server.metrics", expected=expected, got=settings.metrics)
    if settings.metrics != "auto":
        return MetricsPolicy(settings.metrics)
    if settings.metrics_address or is_loopback(settings.host):
        return MetricsPolicy.OPEN
    return MetricsPolicy.KEY if authenticator.required else MetricsPolicy.CLOSED


def apply_limits(settings: SessionSettings, identity: Identity | None) -> SessionSettings:
    """Return the settings of a session, with the limits of its key or token."""
    if identity is None or identity.limits.max_stream_s is None:
        return settings
    max_stream_s = min(settings.limits.max_stream_s, identity.limits.max_stream_s)
    return replace(settings, limits=replace(settings.limits, max_stream_s=max_stream_s))


def warn_if_unauthenticated(authenticator: Authenticator, host: str) -> None:
    """Warn if the server is reachable from the network without authentication."""
    if not authenticator.required and not is_loopback(host):
        log.warning(
            "NO AUTHENTICATION: anyone who can reach %s can use this server. Create a key with `streamer key new` and "
            "set access.keys, or ignore this if a proxy in front authenticates clients",
            host or "this machine",
        )
