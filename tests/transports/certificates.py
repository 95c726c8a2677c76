"""Certificates of an authority that only a test believes in."""

from __future__ import annotations

import os
import ssl
from datetime import datetime
from pathlib import Path

import trustme

from streamer.config import TlsSettings


class Authority:
    """Issues pairs into a folder."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._folder = folder
        self._issued = 0
        self.certificate = folder / "chain.pem"
        self.key = folder / "key.pem"

    @property
    def settings(self) -> TlsSettings:
        return TlsSettings(str(self.certificate), str(self.key), check_s=0.05)

    def issue(self, *, certificate: bool = True, key: bool = True, **dates: datetime) -> None:
        """A new pair for localhost in the place of the old one, or half of one. Each write is seen as a change.

        `dates`: its `not_before` and `not_after`, in UTC.
        """
        pair = self._authority.issue_cert("localhost", "127.0.0.1", **dates)  # type: ignore[arg-type]
        self._issued += 1
        if certificate:
            self.certificate.write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
        if key:
            self.key.write_bytes(pair.private_key_pem.bytes())
        for path in (self.certificate, self.key):
            os.utime(path, ns=(self._issued * 10**9, self._issued * 10**9))

    def trust(self) -> ssl.SSLContext:
        """What a client believes."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        return context
