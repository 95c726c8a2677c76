"""Origin allow-list for browsers."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from streamer.access.hosts import ANY, split_host
from streamer.errors import ConfigError, ErrorCode, StreamerError, brief

_PORTS = {"http": 80, "https": 443}


class ForbiddenOrigin(StreamerError):
    """The page's origin is not allowed to connect."""

    code = ErrorCode.FORBIDDEN_ORIGIN


class Origins:
    """Origins whose pages may connect: an exact list, or the server's own origin if the list is empty.

    Requests without an Origin header are not checked.
    """

    def __init__(self, allowed: Iterable[str] = (), *, tls: bool = False) -> None:
        """Validate the setting. Raises ConfigError.

        `allowed`: the setting; "*" alone allows every page. `tls`: the server itself speaks TLS, so its own origin is
        https. Without it, a proxy may add TLS.
        """
        allowed = tuple(allowed)
        self._any = allowed == (ANY,)
        self._allowed = frozenset() if self._any else frozenset(_validate(origin) for origin in allowed)
        self._schemes = frozenset({"https"}) if tls else frozenset(_PORTS)

    def check(self, origin: str | None, host: str | None) -> None:
        """Raise ForbiddenOrigin for a page that may not connect. `host`: the `Host` header of the request.

        The comparison with the list is exact: scheme, host and port, as RFC 6454 serializes them.
        """
        if (
            origin is None
            or self._any
            or (origin in self._allowed if self._allowed else self._is_same_origin(origin, host))
        ):
            return
        raise ForbiddenOrigin(
            f"origin {brief(origin)} is not allowed: add it to access.origins if its pages may connect"
        )

    def _is_same_origin(self, origin: str, host: str | None) -> bool:
        """Return whether the page's origin is the host of the request."""
        scheme, _, authority = origin.partition("://")
        if scheme not in self._schemes:
            return False
        page, server = split_host(authority), split_host(host or "")
        if page is None or server is None:
            return False
        return (page[0], page[1] or _PORTS[scheme]) == (server[0], server[1] or _PORTS[scheme])


def _validate(origin: str) -> str:
    parts = urlsplit(origin)
    if not parts.scheme or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}" or origin != origin.lower():
        expected = "scheme://host[:port] in lower case, or * alone"
        raise ConfigError(field="access.origins", expected=expected, got=origin)
    return origin
