"""TLS by files, for gRPC: read at the start, and again when a handshake finds that they have changed."""

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
    """Raises ConfigError for a pair that cannot be used."""
    pair = _Pair(settings)
    # The stubs do not know that a fetcher may answer None, for "as before".
    return grpc.dynamic_ssl_server_credentials(pair.read(), pair.newer)  # type: ignore[arg-type]


class _Pair:
    """A certificate and its key. gRPC asks at each handshake, on a thread of its own."""

    def __init__(self, settings: TlsSettings) -> None:
        Certificate(settings)  # says what is wrong with it, as for HTTPS
        self._settings = settings
        self._paths = [Path(settings.key or settings.certificate), Path(settings.certificate)]
        self._seen = self._stamps()

    def read(self) -> grpc.ServerCertificateConfiguration:
        key, chain = (path.read_bytes() for path in self._paths)
        return grpc.ssl_server_certificate_configuration([(key, chain)])

    def newer(self) -> grpc.ServerCertificateConfiguration | None:
        """The pair, where it has changed and can be used; None keeps the one before."""
        try:
            stamps = self._stamps()
            if stamps == self._seen:
                return None
            self._seen = stamps
            Certificate(self._settings)
            return self.read()
        except (StreamerError, OSError) as error:  # half of a pair may be written
            log.error("gRPC: the old certificate stays in use: %s", error)
            return None

    def _stamps(self) -> list[tuple[int, int]]:
        return [(stat.st_mtime_ns, stat.st_ino) for stat in map(os.stat, self._paths)]
