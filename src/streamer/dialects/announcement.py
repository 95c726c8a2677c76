"""Announcement of a port by mDNS (DNS-SD), so that clients on the local network find it."""

from __future__ import annotations

import asyncio
import logging
import socket
from ipaddress import ip_address

from streamer.access import is_loopback
from streamer.dialects.dialect import DialectListener
from streamer.errors import ConfigError, install_command

log = logging.getLogger(__name__)

_MULTICAST = ("224.0.0.251", 5353)


class Announcement:
    """A listener whose port is announced while it listens."""

    def __init__(self, listener: DialectListener, service: str) -> None:
        """Wrap a listener. `service`: as `_wyoming._tcp.local.`. Raises ConfigError if zeroconf is not installed."""
        try:
            from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf  # noqa: PLC0415 (an extra)
        except ModuleNotFoundError as error:
            raise ConfigError(f"announcements by mDNS need: {install_command('zeroconf')} ({error})") from None
        self._listener = listener
        self._service = service
        self._new_zeroconf = AsyncZeroconf
        self._new_info = AsyncServiceInfo
        self._zeroconf: AsyncZeroconf | None = None

    async def start(self, host: str) -> int:
        """Listen, then announce the port; a failure of the announcement is logged. Raises ListenFailed."""
        port = await self._listener.start(host)
        if is_loopback(host):
            log.warning("port %d is not announced by mDNS: %s is a loopback address, set server.host", port, host)
            return port
        try:
            await self._announce(host, port)
        except Exception as error:  # noqa: BLE001 (the server works without)
            log.warning("port %d is not announced by mDNS: %r", port, error)
        return port

    async def stop(self, timeout_s: float) -> None:
        """Withdraw the announcement, and stop the listener."""
        zeroconf, self._zeroconf = self._zeroconf, None
        try:
            if zeroconf is not None:
                await zeroconf.async_unregister_all_services()
                await zeroconf.async_close()
        finally:
            await self._listener.stop(timeout_s)

    async def _announce(self, host: str, port: int) -> None:
        address = await asyncio.get_running_loop().run_in_executor(None, own_address, host)
        name = f"streamer-{socket.gethostname()}-{port}.{self._service}"
        self._zeroconf = self._new_zeroconf()
        info = self._new_info(self._service, name, port=port, parsed_addresses=[address])
        await self._zeroconf.async_register_service(info)
        log.info("port %d is announced by mDNS as %s at %s", port, name, address)


def own_address(host: str) -> str:
    """Return the address to announce: that of a host, or of the interface to the local network."""
    if host and not ip_address(host).is_unspecified:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_MULTICAST)  # sends nothing
        return str(probe.getsockname()[0])
