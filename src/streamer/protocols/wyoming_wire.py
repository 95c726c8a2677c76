"""The framing of Wyoming, Home Assistant's protocol: a line of JSON, then more JSON and a payload of stated lengths."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from streamer.errors import BadRequest, ErrorCode, StreamerError

VERSION = "1.10.2"
"""Version of the package `wyoming` whose events these are."""
MAX_LINE_BYTES = 64 * 1024
MAX_DATA_BYTES = 1024 * 1024
_END = b"\n"


class WyomingEvent(msgspec.Struct, frozen=True):
    """One event. `data`: a JSON object. `payload`: audio."""

    type: str
    data: dict[str, Any] = {}
    payload: bytes = b""


class _Header(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    data: dict[str, Any] | None = None
    data_length: int | None = None
    payload_length: int | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class WyomingLimits:
    """Maximum bytes of the parts of one event."""

    line: int = MAX_LINE_BYTES
    data: int = MAX_DATA_BYTES
    payload: int = 1024 * 1024


@dataclass(slots=True)
class _Expected:
    """The event whose line was read, and the lengths of its other parts."""

    header: _Header
    data: int
    payload: int


@dataclass(slots=True)
class EventParser:
    """Parser of the bytes of one connection, cut anywhere."""

    limits: WyomingLimits = field(default_factory=WyomingLimits)
    _buffer: bytearray = field(default_factory=bytearray)
    _searched: int = 0
    _expected: _Expected | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes that were fed and not returned."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take received bytes."""
        self._buffer += data

    def next(self) -> WyomingEvent | None:
        """Return the next event, once all of it was fed.

        Raises BadRequest for anything else than Wyoming, and StreamerError with the code message_too_big.
        """
        if self._expected is None:
            self._expected = self._line()
        expected = self._expected
        if expected is None or len(self._buffer) < expected.data + expected.payload:
            return None
        end = expected.data + expected.payload
        more, payload = bytes(self._buffer[: expected.data]), bytes(self._buffer[expected.data : end])
        del self._buffer[:end]
        self._expected = None
        data = expected.header.data or {}
        return WyomingEvent(expected.header.type, {**data, **_object(more)} if more else data, payload)

    def _line(self) -> _Expected | None:
        at = self._buffer.find(_END, self._searched)
        length = len(self._buffer) if at < 0 else at
        if length > self.limits.line:
            raise _too_big("a line", self.limits.line, length)
        if at < 0:
            self._searched = length
            return None
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 1]
        self._searched = 0
        header = _header(line)
        return _Expected(
            header,
            _length("data_length", header.data_length, self.limits.data),
            _length("payload_length", header.payload_length, self.limits.payload),
        )


def encode_event(event: WyomingEvent) -> bytes:
    """Return the bytes of an event, in the way of the package `wyoming`: its data follow its line."""
    data = msgspec.json.encode(event.data) if event.data else b""
    header = _Header(event.type, None, len(data) or None, len(event.payload) or None, VERSION)
    return b"".join((msgspec.json.encode(header), _END, data, event.payload))


def error_event(code: ErrorCode, text: str) -> WyomingEvent:
    """Return the event of an error."""
    return WyomingEvent("error", {"text": text, "code": code.value})


_header_decoder = msgspec.json.Decoder(_Header)
_object_decoder = msgspec.json.Decoder(dict[str, Any])


def _header(line: bytes) -> _Header:
    try:
        return _header_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = 'expected a line {"type": ..., "data_length": ..., "payload_length": ...}'
        raise BadRequest(f"{text}: {_brief(error)}") from None


def _object(data: bytes) -> dict[str, Any]:
    try:
        return _object_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"data: expected a JSON object of data_length bytes: {_brief(error)}") from None


def _length(field: str, value: int | None, limit: int) -> int:
    if value is None:
        return 0
    if value < 0:
        raise BadRequest(field=field, expected="0 or more", got=value)
    if value > limit:
        raise _too_big(field.removesuffix("_length"), limit, value)
    return value


def _too_big(what: str, limit: int, got: int) -> StreamerError:
    return StreamerError(f"expected {what} of at most {limit} bytes, got {got}", code=ErrorCode.MESSAGE_TOO_BIG)


def _brief(error: Exception) -> str:
    return str(error)[:200]
