"""What a client can say, whatever the dialect. Imperative, frozen, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from streamer.audio.format import AudioFormat
from streamer.errors import ErrorCode
from streamer.media.formats import MediaFormat
from streamer.session.events import Mode


class VadOverrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The endpointing a client may change for its own session; None keeps the server's. Times in milliseconds."""

    positive_speech_threshold: float | None = None
    negative_speech_threshold: float | None = None
    pre_speech_pad_ms: float | None = None
    post_speech_pad_ms: float | None = None
    redemption_time_ms: float | None = None
    min_speech_time_ms: float | None = None
    max_speech_time_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Begin a stream. In mid-stream: finish the running one as if stopped, then begin."""

    format: AudioFormat
    interim_results: bool = False
    interim_interval_ms: int | None = None
    chunk_ms: int | None = None
    vad: VadOverrides = VadOverrides()
    traceparent: str | None = None
    tracestate: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    options: bytes = b"{}"
    """A JSON object, handed to the model as it is."""
    media: MediaFormat | None = None
    """Of compressed audio: then `format` is a guess, until `SetFormat`."""
    mode: Mode | None = None
    """None: the mode of the address that the client came to."""


class Audio(msgspec.Struct, frozen=True, gc=False):
    """Interleaved samples in the agreed format, cut anywhere. (A struct: one is made per message, at a fifth of the
    cost of a frozen dataclass.)"""

    data: bytes


@dataclass(frozen=True, slots=True)
class SetFormat:
    """The format of compressed audio is known now. Comes before the first `Audio` of the stream."""

    format: AudioFormat


@dataclass(frozen=True, slots=True)
class Flush:
    """End the running utterance here; its final comes, then `Flushed` with the same id. The clock goes on."""

    id: str | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish everything received. `keep_open`: the connection stays for another stream."""

    keep_open: bool = False


@dataclass(frozen=True, slots=True)
class Leave:
    """The client has said its last word and still listens (half a close): finish everything received, then close."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Nothing to say, still here."""


@dataclass(frozen=True, slots=True)
class Auth:
    """Who this is, said on the connection itself. The session minds none: whoever conducts it looks at the secret."""

    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A frame the codec could not read. The codec says which fault; the session decides what follows."""

    code: ErrorCode
    message: str
    fatal: bool = False


Message = Start | Audio | SetFormat | Flush | Stop | Leave | KeepAlive | Auth | Malformed
