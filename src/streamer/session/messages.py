"""Messages of a client, independent of the protocol version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode
from streamer.media.formats import MediaFormat
from streamer.session.events import Mode


class VadOverrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Endpointing that a client may change for its own session; None keeps the server's. Times in milliseconds."""

    positive_speech_threshold: float | None = None
    negative_speech_threshold: float | None = None
    pre_speech_pad_ms: float | None = None
    post_speech_pad_ms: float | None = None
    redemption_time_ms: float | None = None
    min_speech_time_ms: float | None = None
    max_speech_time_ms: float | None = None


class AudioOutFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The audio that a client wants to receive. `sample_rate` in Hz.

    `paced`: on `segmented`, answers are sent at the speed of a listener; False for a client that saves them.
    """

    encoding: Encoding
    sample_rate: int
    paced: bool = True


@dataclass(frozen=True, slots=True)
class Start:
    """Begin a stream. During a stream: finish it like a stop, then begin."""

    format: AudioFormat
    interim_results: bool = False
    interim_interval_ms: int | None = None
    chunk_ms: int | None = None
    vad: VadOverrides = VadOverrides()
    traceparent: str | None = None
    tracestate: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    options: bytes = b"{}"
    """A JSON object, passed to the model unchanged."""
    media: MediaFormat | None = None
    """Format of compressed audio. Then `format` is a guess until `SetFormat`. None for PCM."""
    mode: Mode | None = None
    """None for the mode of the endpoint."""
    audio_out: AudioOutFormat | None = None
    """None for no audio."""
    progress_ms: int | None = None
    """Milliseconds of audio between two `Progress` events; None for none."""

    @property
    def declared_channels(self) -> int:
        """Channels of the audio, as far as the client says."""
        if self.media is None:
            return self.format.channels
        return 1 if self.media.downmix else self.media.channels or 1


class Audio(msgspec.Struct, frozen=True, gc=False):
    """Interleaved samples in the agreed format, cut anywhere.

    A struct, because one is created per message, at a fifth of the cost of a frozen dataclass.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class Configure:
    """Change the settings of the running stream. Times continue, and open speech stays open.

    Every field replaces that of the start; a field of `vad` that is None is the server's default.
    """

    vad: VadOverrides = VadOverrides()
    interim_results: bool = False
    interim_interval_ms: int | None = None
    options: bytes = b"{}"


@dataclass(frozen=True, slots=True)
class SetFormat:
    """The format of compressed audio is known now. Comes before the first `Audio` of the stream."""

    format: AudioFormat


@dataclass(frozen=True, slots=True)
class Flush:
    """End the running utterance here; its final follows, then `Flushed` with the same id. Times continue."""

    id: str | None = None


@dataclass(frozen=True, slots=True)
class Clear:
    """Drop the audio out that has not been sent (barge-in); `Cleared` says how much it was."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish all received audio. `keep_open`: keep the connection for another stream."""

    keep_open: bool = False


@dataclass(frozen=True, slots=True)
class HalfClose:
    """A half-close: the client sends no more and still receives. Finish all received audio, then close."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Reset the idle time-out."""


@dataclass(frozen=True, slots=True)
class Auth:
    """A credential, sent on the connection. Ignored by Session; the connection verifies it."""

    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A frame that the codec could not read. The codec chooses the error; the session, what follows."""

    code: ErrorCode
    message: str
    fatal: bool = False


Message = Start | Audio | Configure | SetFormat | Flush | Clear | Stop | HalfClose | KeepAlive | Auth | Malformed
