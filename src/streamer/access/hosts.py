"""Host names of a server: DNS rebinding makes a foreign page's name resolve to the server's address."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from streamer.errors import ConfigError, ErrorCode, StreamerError, brief

ANY = "*"
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/?#@\[\]]+)(?::([0-9]{1,5}))?")
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


class ForbiddenHost(StreamerError):
    """The request names a host that is not this server."""

    code = ErrorCode.FORBIDDEN


class Hosts:
    """Host names that requests may use.

    A server on a loopback address accepts loopback names and `server.hosts`. A server on another address accepts every
    host, unless `server.hosts` is set: then it accepts these names, loopback names and IP addresses. Rebinding needs a
    name, and probes do not have one.
    """

    def __init__(self, listening: str, names: Iterable[str] = ()) -> None:
        """Validate the setting. Raises ConfigError.

        `listening`: the address that the server listens on. `names`: the setting `server.hosts`.
        """
        names = {_validate(name) for name in names}
        self._names = frozenset(name for name in names if not name.startswith("*"))
        self._suffixes = tuple(name[1:] for name in names if name.startswith("*."))
        self._is_loopback = is_loopback(listening)
        self.is_checked = ANY not in names and (self._is_loopback or bool(names))
        """Whether any host is refused."""

    def check(self, host: str | None) -> None:
        """Raise ForbiddenHost for a host that is not this server.

        A client that sends no host is not a browser and passes.
        """
        if host and self.is_checked and not self._is_allowed(host):
            raise ForbiddenHost(
                f"host {brief(host)} is not allowed: add it to server.hosts if it is a name of this server"
            )

    def _is_allowed(self, host: str) -> bool:
        authority = split_host(host)
        if authority is None:
            return False
        name = authority[0].removesuffix(".")
        if is_loopback(name) or name in self._names or name.endswith(self._suffixes):
            return True
        return not self._is_loopback and _address(name) is not None


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is loopback: 127.0.0.0/8, ::1, localhost, *.localhost."""
    address = _address(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address is not None:
        return address.is_loopback
    return f".{host.lower()}".endswith(".localhost")


def split_host(host: str) -> tuple[str, int | None] | None:
    """Return the lower-case name and the port of a `Host` header; None if the header is malformed.

    An IPv6 address is returned without brackets.
    """
    match = _AUTHORITY.fullmatch(host.lower())
    if match is None:
        return None
    name, port = match.groups()
    return name.strip("[]"), None if port is None else int(port)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def _validate(name: str) -> str:
    if name == ANY or _NAME.fullmatch(name):
        return name
    if _address(name) is not None:
        return name.strip("[]")
    expected = "names in lower case without a port, such as asr.example.org or *.example.org"
    raise ConfigError(field="server.hosts", expected=expected, got=name)
