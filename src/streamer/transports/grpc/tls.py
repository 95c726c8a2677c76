"""TLS files for gRPC: loaded at the start, and again when a handshake finds them changed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import grpc

from streamer.config import TlsSettings
from streamer.errors import StreamerError
from streamer.transports.tls import Certificate

log = logging.getLogger(__name__)


def credentials(settings: TlsSettings) -> grpc.ServerCredentials:
    """Return the server credentials. Raises ConfigError for an unusable pair."""
    pair = _CertificatePair(settings)
    # The stubs do not know that a fetcher may return None for "unchanged".
    return grpc.dynamic_ssl_server_credentials(pair.read(), pair.newer)  # type: ignore[arg-type]


class _CertificatePair:
    """A certificate and its key. gRPC calls it at each handshake, on its own thread."""

    def __init__(self, settings: TlsSettings) -> None:
        Certificate(settings)  # raises the same errors as for HTTPS
        self._settings = settings
        self._paths = [Path(settings.key or settings.certificate), Path(settings.certificate)]
        self._loaded_stamps = self._stamps()

    def read(self) -> grpc.ServerCertificateConfiguration:
        key, chain = (path.read_bytes() for path in self._paths)
        return grpc.ssl_server_certificate_configuration([(key, chain)])

    def newer(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the pair if it has changed and is usable; None keeps the previous one."""
        try:
            stamps = self._stamps()
            if stamps == self._loaded_stamps:
                return None
            self._loaded_stamps = stamps
            Certificate(self._settings)
            return self.read()
        except (StreamerError, OSError) as error:  # half of a pair may be written
            log.error("gRPC: the old certificate stays in use: %s", error)
            return None

    def _stamps(self) -> list[tuple[int, int]]:
        return [(stat.st_mtime_ns, stat.st_ino) for stat in map(os.stat, self._paths)]
