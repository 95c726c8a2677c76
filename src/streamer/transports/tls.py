"""TLS by files: read at the start, and again when they change, without dropping a connection."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl

from streamer.config import TlsSettings
from streamer.errors import ConfigError
from streamer.telemetry.observer import Observer, Subsystem

log = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int], ...]


class Certificate:
    """A certificate and its key. New handshakes use the newest pair that could be read; running ones keep theirs."""

    def __init__(self, settings: TlsSettings) -> None:
        """Raises ConfigError."""
        self._certificate = settings.certificate
        self._key = settings.key or settings.certificate
        self._check_s = settings.check_s
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._read = self._stamp()
        self._load()

    def refresh(self) -> bool:
        """Read the files again where they have changed; True where that gave a new pair. A pair that cannot be read
        (half of it may be written) changes nothing, is logged, and is tried again when it changes."""
        try:
            stamp = self._stamp()
            if stamp == self._read:
                return False
            self._read = stamp
            self._load()
        except ConfigError as error:
            log.error("the old certificate stays: %s", error.message)
            return False
        log.info("read a new certificate from %s", self._certificate)
        return True

    async def watch(self, observer: Observer) -> None:
        """Refresh for ever. An error that nobody foresaw is logged and counted, and the old pair stays."""
        while True:
            await asyncio.sleep(self._check_s)
            try:
                self.refresh()
            except Exception as error:
                log.exception("the old certificate stays: %s could not be looked at", self._certificate)
                observer.broken(Subsystem.OTHER, error)

    def _load(self) -> None:
        try:
            # A context is spoilt by a pair that does not match, so it is tried on another one first.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key, _no_password)
            self.context.load_cert_chain(self._certificate, self._key, _no_password)
        except (OSError, ssl.SSLError) as error:
            raise _wrong(f"{self._certificate}, {self._key}: {_reason(error)}") from None

    def _stamp(self) -> _Stamp:
        """What tells that a file is another one now."""
        try:
            stats = [os.stat(path) for path in (self._certificate, self._key)]
        except OSError as error:
            raise _wrong(f"{error.filename}: cannot be read: {_reason(error)}") from None
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in stats)


def _no_password() -> str:
    """A server cannot ask; without this OpenSSL would, on the terminal."""
    return ""


def _wrong(text: str) -> ConfigError:
    return ConfigError(f"tls: {text}", field="tls.certificate")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
