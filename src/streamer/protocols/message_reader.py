"""Strict, bounded parsing of client messages. Unreadable input becomes `Malformed`, never an exception."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode, InvalidFormat
from streamer.media.formats import Container, MediaFormat, provisional
from streamer.session.messages import Audio, Malformed

WireT = TypeVar("WireT")

MAX_CONTROL_BYTES = 16 * 1024
MAX_AUDIO_BYTES = 1024 * 1024
MAX_DEPTH = 64
"""Maximum nesting of a client's `options`, so that a model cannot be led into deep recursion."""
_ENCODINGS = frozenset(Encoding)
_CONTAINERS = frozenset(Container)
_MAX_MESSAGE = 200
_AUDIO_HINT = "; audio belongs in binary frames"


class MessageReader(Generic[WireT]):
    """Decodes text frames to the wire structs of one protocol version. If a key occurs twice, the last one counts."""

    def __init__(self, wire: Any, words: str, *, max_control_bytes: int, max_audio_message_bytes: int) -> None:
        """Create a decoder. `wire`: a tagged union of structs. `words`: its tags, for error messages."""
        self._decoder: msgspec.json.Decoder[WireT] = msgspec.json.Decoder(wire)
        self._message_names = words
        self._max_control = max_control_bytes
        self._max_audio = max_audio_message_bytes

    def audio(self, data: bytes) -> Audio | Malformed:
        """Decode a binary frame."""
        if len(data) > self._max_audio:
            return too_big("an audio message", self._max_audio, len(data))
        return Audio(data)

    def text(self, frame: str) -> WireT | Malformed:
        """Decode a text frame."""
        try:
            size = len(frame) if len(frame) > self._max_control else len(frame.encode())
            if size > self._max_control:
                return too_big("a control message", self._max_control, size)
            return self._decoder.decode(frame)
        except UnicodeEncodeError:
            text = "not JSON: half of a surrogate pair"
        except RecursionError:
            text = "JSON is nested too deep"
        except msgspec.ValidationError as error:
            return self._invalid(error, frame)
        except msgspec.DecodeError as error:
            text = _not_json(error) + _hint(frame)
        return Malformed(ErrorCode.BAD_REQUEST, text)

    def _invalid(self, error: msgspec.ValidationError, frame: str) -> Malformed:
        """Return the error for JSON that violates the protocol. An unreadable format is fatal."""
        text, path = _locate(error)
        if path in {"type", "request"}:
            text = f"{text}, expected one of {self._message_names}"
        elif path == "audio_out.encoding":
            text = f"{text}, expected one of {', '.join(Encoding)}"
        message = _truncate(f"{path}: {text}" if path else text)
        if path == "format" or path.startswith("format."):
            return Malformed(ErrorCode.INVALID_FORMAT, message, fatal=True)
        return Malformed(ErrorCode.BAD_REQUEST, message + _hint(frame))


def declared_format(
    encoding: str, sample_rate: int | None, channels: int | None, downmix: bool
) -> tuple[AudioFormat, MediaFormat | None]:
    """Return the format of PCM; or a guess at it, and the format of compressed audio. Raises InvalidFormat."""
    if encoding in _CONTAINERS:
        media = MediaFormat(Container(encoding), channels, downmix).check()
        return provisional(), media
    if encoding not in _ENCODINGS:
        expected = f"one of {', '.join((*Encoding, *Container))}"
        raise InvalidFormat(field="format.encoding", expected=expected, got=encoding)
    if downmix:
        raise InvalidFormat(field="format.downmix", expected="false for PCM; join the channels yourself", got=downmix)
    if sample_rate is None or channels is None:
        name = "sample_rate" if sample_rate is None else "channels"
        raise InvalidFormat(field=f"format.{name}", expected=f"an integer with {encoding}", got=None)
    return AudioFormat(Encoding(encoding), sample_rate, channels).check(), None


def validate_options(raw: bytes) -> bytes | Malformed:
    """Validate a model's options: any JSON object within limits, so that decoding it later cannot fail."""
    try:
        value = msgspec.json.decode(raw, type=dict[str, Any])
    except RecursionError:
        return Malformed(ErrorCode.BAD_REQUEST, "options: JSON is nested too deep")
    except msgspec.ValidationError as error:
        text, path = _locate(error)
        return Malformed(ErrorCode.BAD_REQUEST, _truncate(f"options{'.' if path else ''}{path}: {text}"))
    except msgspec.DecodeError as error:
        return Malformed(ErrorCode.BAD_REQUEST, _truncate(f"options: {_not_json(error)}"))
    if deeper_than(MAX_DEPTH, value):
        return Malformed(ErrorCode.BAD_REQUEST, f"options: expected at most {MAX_DEPTH} levels of nesting")
    return raw


def unsupported_format(error: InvalidFormat) -> Malformed:
    """Return the error for an unsupported format."""
    return Malformed(error.code, error.message, fatal=True)


def too_big(what: str, limit: int, got: int) -> Malformed:
    """Return the error for a message above its limit."""
    message = f"expected {what} of at most {limit} bytes, got {got}"
    return Malformed(ErrorCode.MESSAGE_TOO_BIG, message, fatal=True)


def _locate(error: msgspec.ValidationError) -> tuple[str, str]:
    """Split msgspec's "Expected `int`, got `str` - at `$.format.channels`" into (text, path), in our wording."""
    text, _, path = str(error).partition(" - at `$")
    return text[:1].lower() + text[1:], path.rstrip("`").lstrip(".")


def _not_json(error: msgspec.DecodeError) -> str:
    text = str(error)
    if text == "Input data was truncated":  # msgspec says the same of an escape without its second half
        return "not JSON: cut short, or half of a surrogate pair"
    return _truncate(text.replace("JSON is malformed", "not JSON"))


def _hint(frame: str) -> str:
    return "" if frame.lstrip().startswith("{") else _AUDIO_HINT


def _truncate(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "…"


def deeper_than(limit: int, value: object) -> bool:
    """Return whether JSON nests deeper than `limit` levels."""
    level = [value]
    for _ in range(limit):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True
