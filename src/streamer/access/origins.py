"""Which web pages may connect: browsers say where a page came from, and nobody else can make them say otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from streamer.errors import ConfigError, ErrorCode, StreamerError, brief


class ForbiddenOrigin(StreamerError):
    """The page that wants to connect is not on the list."""

    code = ErrorCode.FORBIDDEN_ORIGIN


class Origins:
    """An exact allow-list; an empty one allows every page. Who sends no origin is no browser, and is not asked."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(_checked(origin) for origin in allowed)

    def check(self, origin: str | None) -> None:
        """Raises ForbiddenOrigin. The comparison is exact: scheme, host and port, as RFC 6454 serializes them."""
        if origin is not None and self._allowed and origin not in self._allowed:
            raise ForbiddenOrigin(f"pages of {brief(origin)} may not connect")


def _checked(origin: str) -> str:
    parts = urlsplit(origin)
    if not parts.scheme or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}" or origin != origin.lower():
        raise ConfigError(field="access.origins", expected="scheme://host[:port] in lower case", got=origin)
    return origin
