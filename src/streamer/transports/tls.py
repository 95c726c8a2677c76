"""TLS files: loaded at the start, and again when they change, without dropping a connection."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path

from streamer.config import TlsSettings
from streamer.errors import ConfigError
from streamer.telemetry.observer import Observer, Subsystem
from streamer.transports.validity import Phase, Validity, read_validity, utc

log = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int], ...]


class Certificate:
    """A certificate and its key. New handshakes use the newest usable pair; open connections keep theirs."""

    def __init__(self, settings: TlsSettings, wall_clock: Callable[[], float] | None = None) -> None:
        """Load the pair. Raises ConfigError.

        `wall_clock`: seconds since 1970; without it, the validity is not checked.
        """
        self._certificate = settings.certificate
        self._key = settings.key or settings.certificate
        self._check_s = settings.check_s
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._wall_clock = wall_clock
        self._logged: tuple[Validity, Phase] | None = None
        self.validity: Validity | None = None
        """Validity of the newest pair; None if it cannot be read."""
        self._read = self._stamp()
        self._load()
        self._log_phase()

    @property
    def expiry(self) -> float | None:
        """Expiry of the newest pair in seconds since 1970; None if it cannot be read."""
        return None if self.validity is None else self.validity.not_after

    def refresh(self) -> bool:
        """Reload the files if they have changed, and log problems of the validity. Return True for a new pair.

        A pair that cannot be read (half of it may be written) changes nothing, is logged, and is tried again when it
        changes.
        """
        is_new = self._read_again()
        self._log_phase()
        return is_new

    def _read_again(self) -> bool:
        try:
            stamp = self._stamp()
            if stamp == self._read:
                return False
            self._read = stamp
            self._load()
        except ConfigError as error:
            log.error("the old certificate stays in use: %s", error.message)
            return False
        log.info("read a new certificate from %s", self._certificate)
        return True

    async def watch(self, observer: Observer) -> None:
        """Refresh forever. An unexpected error is logged and counted, and the old pair stays in use."""
        while True:
            await asyncio.sleep(self._check_s)
            try:
                self.refresh()
            except Exception as error:
                log.exception("the old certificate stays in use: %s could not be read", self._certificate)
                observer.unexpected_error(Subsystem.OTHER, error)

    def _load(self) -> None:
        try:
            # A pair that does not match would spoil the context, so it is tried on another one first.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key, _no_password)
            self.context.load_cert_chain(self._certificate, self._key, _no_password)
            self.validity = _validity(self._certificate)
        except (OSError, ssl.SSLError) as error:
            raise _wrong(f"{self._certificate}, {self._key}: {_reason(error)}") from None

    def _log_phase(self) -> None:
        """Log the state of the validity, once for each certificate and phase."""
        if self._wall_clock is None or self.validity is None:
            return
        phase = self.validity.phase(self._wall_clock())
        if self._logged == (self.validity, phase):
            return
        self._logged = self.validity, phase
        begin, end = utc(self.validity.not_before), utc(self.validity.not_after)
        match phase:
            case Phase.EXPIRED:
                log.error("the certificate %s has expired at %s: clients refuse it, renew it", self._certificate, end)
            case Phase.NOT_YET_VALID:
                log.error("the certificate %s is not valid before %s: clients refuse it", self._certificate, begin)
            case Phase.EXPIRES_SOON:
                log.warning("the certificate %s expires at %s: renew it", self._certificate, end)

    def _stamp(self) -> _Stamp:
        """Return a value that changes when a file is replaced."""
        try:
            stats = [os.stat(path) for path in (self._certificate, self._key)]
        except OSError as error:
            raise _wrong(f"{error.filename}: cannot be read: {_reason(error)}") from None
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in stats)


def _validity(path: str) -> Validity | None:
    """Return the validity of a certificate file; None if it cannot be read, which is no reason not to serve it."""
    try:
        return read_validity(Path(path).read_text("utf-8", "replace"))
    except ValueError as error:
        log.warning("the dates of the certificate %s cannot be read: %s", path, error)
        return None


def _no_password() -> str:
    """Raise for an encrypted key; otherwise OpenSSL would ask for the password on the terminal."""
    return ""


def _wrong(text: str) -> ConfigError:
    return ConfigError(f"tls: {text}", field="tls.certificate")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
