"""The validity of a certificate, the one part of X.509 that `ssl` does not provide."""

from __future__ import annotations

import base64
import re
import time
from calendar import timegm
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

EXPIRES_SOON_S = 14 * 86_400
"""Remaining validity in seconds below which a certificate should have been renewed; ACME renews weeks earlier."""

_PEM = re.compile(r"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.+?)-----END", re.DOTALL)
_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18
_BEFORE_VALIDITY = 3
"""Fields of a certificate between its version and its validity: serial number, algorithm, issuer."""
_LONG = 0x80
"""A length of more than one byte; the rest of the byte is the number of the following ones."""


class Phase(StrEnum):
    """State of a certificate at a time."""

    VALID = "valid"
    NOT_YET_VALID = "not yet valid"
    EXPIRES_SOON = "expires soon"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Validity:
    """Validity in seconds since 1970, both included (RFC 5280, 4.1.2.5)."""

    not_before: float
    not_after: float

    def phase(self, now: float) -> Phase:
        """Return the state at `now`, in seconds since 1970."""
        if now > self.not_after:
            return Phase.EXPIRED
        if now < self.not_before:
            return Phase.NOT_YET_VALID
        return Phase.EXPIRES_SOON if self.not_after - now <= EXPIRES_SOON_S else Phase.VALID


def read_validity(pem: str) -> Validity:
    """Return the validity of the first certificate of a PEM file, which is the server's own. Raises ValueError."""
    match = _PEM.search(pem)
    if match is None:
        raise ValueError("no certificate")
    try:
        _, certificate = next(_elements(base64.b64decode(match[1])))
        _, signed = next(_elements(certificate))
        fields = [content for tag, content in _elements(signed) if tag != _VERSION]
        begin, end = _elements(fields[_BEFORE_VALIDITY])
        return Validity(_time(*begin), _time(*end))
    except (StopIteration, IndexError):
        raise ValueError("a malformed certificate: parts are missing") from None


def utc(seconds: float) -> str:
    """Format seconds since 1970 for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each element of a DER sequence. Raises ValueError for a truncated one."""
    at = 0
    while at < len(der):
        tag, length, start = der[at], *_length(der, at + 1)
        at = start + length
        if at > len(der):
            raise ValueError("a truncated certificate")
        yield tag, der[start:at]


def _length(der: bytes, at: int) -> tuple[int, int]:
    """Return a DER length and the position of its content."""
    first = int.from_bytes(der[at : at + 1], "big")
    if first < _LONG:
        return first, at + 1
    start = at + 1 + (first - _LONG)
    return int.from_bytes(der[at + 1 : start], "big"), start


def _time(tag: int, content: bytes) -> float:
    """Parse a UTCTime (two digits of the year, from 1950 on) or a GeneralizedTime (four) to seconds since 1970."""
    text = content.decode("ascii").removesuffix("Z")
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("a malformed certificate: its dates are missing")
    year, *rest = int(text[:4]), *(int(text[at : at + 2]) for at in range(4, 14, 2))
    return float(timegm((year, *rest)))
