"""The codec of Twilio Media Streams: the audio of a call in text messages, and the signature of its requests."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import replace
from typing import ClassVar

import msgspec

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode
from streamer.protocols.calls import CallReport
from streamer.protocols.channel_joiner import ChannelJoiner
from streamer.protocols.codec import Reply
from streamer.protocols.message_reader import MAX_AUDIO_BYTES, MAX_CONTROL_BYTES, MessageReader
from streamer.session.events import Event
from streamer.session.messages import Audio, HalfClose, KeepAlive, Malformed, Message, Start, Stop

Frame = str | bytes

RATE = 8_000
MAX_LAG_BYTES = RATE
"""Audio of one track beyond which silence stands for the other one's."""
SILENCE = b"\xff"
"""One sample of silence in mu-law."""


class TwilioEvent(msgspec.Struct, frozen=True, tag_field="event"):
    """Base of Twilio's messages. Unknown fields are ignored."""


class TwilioConnected(TwilioEvent, frozen=True, tag="connected"):
    """The first message."""


class TwilioCall(msgspec.Struct, frozen=True, rename="camel"):
    """The call of a stream. `tracks`: inbound (the caller), outbound, or both."""

    stream_sid: str = ""
    call_sid: str = ""
    account_sid: str = ""
    tracks: tuple[str, ...] = ("inbound",)
    custom_parameters: dict[str, str] = {}


class TwilioStart(TwilioEvent, frozen=True, tag="start"):
    """The stream begins: mu-law at 8 kHz."""

    start: TwilioCall


class TwilioMedia(msgspec.Struct, frozen=True):
    """Audio of one track. `payload`: in base64."""

    payload: str
    track: str = "inbound"


class TwilioAudio(TwilioEvent, frozen=True, tag="media"):
    """A message with audio."""

    media: TwilioMedia


class TwilioKey(msgspec.Struct, frozen=True):
    """A key that the caller has pressed."""

    digit: str


class TwilioDigit(TwilioEvent, frozen=True, tag="dtmf"):
    """A message with a key."""

    dtmf: TwilioKey


class TwilioMark(TwilioEvent, frozen=True, tag="mark"):
    """The echo of a mark, of which none is sent."""


class TwilioStop(TwilioEvent, frozen=True, tag="stop"):
    """The stream has ended."""


TwilioMessage = TwilioConnected | TwilioStart | TwilioAudio | TwilioDigit | TwilioMark | TwilioStop


def signature_of(token: bytes, url: str) -> str:
    """Return the signature by which Twilio proves that a request for `url` is its own. `token`: of the account."""
    return base64.b64encode(hmac.new(token, url.encode(), hashlib.sha1).digest()).decode()


class Twilio:
    """Codec of one stream, whose results go to its report."""

    name: ClassVar[str] = "twilio"
    joins_audio: ClassVar[bool] = False
    ends_with_connection: ClassVar[bool] = False

    def __init__(
        self,
        report: CallReport,
        *,
        max_control_bytes: int = MAX_CONTROL_BYTES,
        max_audio_message_bytes: int = MAX_AUDIO_BYTES,
    ) -> None:
        self._report = report
        self._reader: MessageReader[TwilioMessage] = MessageReader(
            TwilioMessage,
            "connected, start, media, dtmf, mark, stop",
            max_control_bytes=max_control_bytes,
            max_audio_message_bytes=max_audio_message_bytes,
        )
        self._tracks: dict[str, int] = {}
        """Channel of each track; empty before the start."""
        self._joiner = ChannelJoiner(0, SILENCE)

    def begin(self) -> tuple[()]:
        return ()

    def decode(self, frame: Frame) -> Message | list[Message | Reply[Frame]]:  # noqa: PLR0911 (one per message)
        if not isinstance(frame, str):
            return _refused("expected text messages", ErrorCode.WRONG_FRAME_TYPE)
        match self._reader.text(frame):
            case TwilioAudio(media=media):
                return self._audio(media)
            case TwilioStart(start=call):
                return self._start(call)
            case TwilioStop():
                return self._stop()
            case TwilioDigit(dtmf=key):
                self._report.digit(key.digit)
                return KeepAlive()
            case Malformed() as malformed:
                return replace(malformed, fatal=True)
            case _:
                return KeepAlive()

    def encode(self, event: Event) -> None:
        self._report.event(event)

    def _start(self, call: TwilioCall) -> Message:
        if self._tracks:
            return _refused("a second start: expected one on a connection", ErrorCode.BAD_STATE)
        if not 1 <= len(set(call.tracks)) == len(call.tracks) <= 2:
            return _refused(f"start.tracks: expected one or two names, got {len(call.tracks)}")
        self._tracks = {track: channel for channel, track in enumerate(call.tracks)}
        self._joiner = ChannelJoiner(len(self._tracks), SILENCE)
        parameters = {**call.custom_parameters, "stream_sid": call.stream_sid, "account_sid": call.account_sid}
        self._report.start(call.call_sid or call.stream_sid, call.tracks, RATE, parameters)
        language = call.custom_parameters.get("language")
        options = msgspec.json.encode({"language": language}) if language else b"{}"
        return Start(AudioFormat(Encoding.MULAW, RATE, len(call.tracks)), interim_results=True, options=options)

    def _audio(self, media: TwilioMedia) -> Message | list[Message | Reply[Frame]]:
        channel = self._tracks.get(media.track)
        if channel is None:
            what = "media before start" if not self._tracks else "media of a track that start does not name"
            return _refused(what, ErrorCode.BAD_STATE)
        try:
            self._joiner.push(channel, base64.b64decode(media.payload, validate=True))
        except (binascii.Error, ValueError):
            return _refused("media.payload: expected base64")
        audio = self._joiner.take(max_lag_bytes=MAX_LAG_BYTES)
        return Audio(audio) if audio else []

    def _stop(self) -> Message | list[Message | Reply[Frame]]:
        if not self._tracks:
            return HalfClose()
        return [Audio(self._joiner.take(max_lag_bytes=0)), Stop()]


def _refused(text: str, code: ErrorCode = ErrorCode.BAD_REQUEST) -> Malformed:
    return Malformed(code, text, fatal=True)
