"""Network addresses in settings."""

from __future__ import annotations

from streamer.errors import ConfigError


def host_and_port(address: str, field: str) -> tuple[str, int]:
    """Parse `host:port`, with an IPv6 host in brackets. `field`: name of the setting. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(field=field, expected="host:port", got=address)
    return host.removeprefix("[").removesuffix("]"), int(port)
