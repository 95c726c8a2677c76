"""Named channels of Speechmatics' protocol: audio in base64, a message for each channel."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from streamer.audio.format import Encoding
from streamer.errors import ErrorCode, brief
from streamer.protocols.channel_joiner import ChannelJoiner
from streamer.protocols.speechmatics_wire import AddChannelAudio, ChannelAudioAdded, EndOfChannel
from streamer.session.messages import Malformed

MAX_NAME = 64
"""Characters of the name of a channel."""
MAX_WAITING_BYTES = 4 * 1024 * 1024
"""Audio of a session that may wait for that of another channel: speechmatics-python sends up to 2 MiB of the first
file before it begins with the second one."""
_SILENCES = {Encoding.PCM_S16LE: bytes(2), Encoding.PCM_F32LE: bytes(4), Encoding.MULAW: b"\xff"}


class NamedChannels:
    """Channels of one session, by the names that the client has given them."""

    def __init__(self, names: Sequence[str], encoding: Encoding) -> None:
        self.names = tuple(names)
        self._indices = {name: index for index, name in enumerate(names)}
        self._joiner = ChannelJoiner(len(names), _SILENCES[encoding])
        self._messages = [0] * len(names)

    @property
    def is_ended(self) -> bool:
        """Whether the client has ended all channels."""
        return self._joiner.is_ended

    def index_of(self, name: str) -> int | Malformed:
        """Return the channel of a name, or the error of one that the client has not given."""
        index = self._indices.get(name)
        if index is not None:
            return index
        expected = f"one of {', '.join(map(brief, self.names))}"
        return Malformed(ErrorCode.BAD_REQUEST, f"channel: expected {expected}, got {brief(name)}", fatal=True)

    def add(self, message: AddChannelAudio, max_bytes: int) -> tuple[int, ChannelAudioAdded] | Malformed:
        """Add a message of at most `max_bytes` of audio; return its size in bytes and its answer."""
        index = self.index_of(message.channel)
        if isinstance(index, Malformed):
            return index
        try:
            audio = base64.b64decode(message.data, validate=True)
        except (binascii.Error, ValueError):
            return Malformed(ErrorCode.BAD_REQUEST, "AddChannelAudio.data: expected audio in base64", fatal=True)
        if len(audio) > max_bytes:
            text = f"AddChannelAudio.data: expected at most {max_bytes} bytes of audio, got {len(audio)}"
            return Malformed(ErrorCode.MESSAGE_TOO_BIG, text, fatal=True)
        self._joiner.push(index, audio)
        self._messages[index] += 1
        return len(audio), ChannelAudioAdded(message.channel, self._messages[index])

    def end(self, message: EndOfChannel) -> Malformed | None:
        """End a channel, for which silence stands from now on."""
        index = self.index_of(message.channel)
        if isinstance(index, Malformed):
            return index
        self._joiner.end(index)
        return None

    def take(self) -> bytes | Malformed:
        """Return the interleaved audio that all channels have."""
        audio = self._joiner.take()
        if self._joiner.waiting_bytes > MAX_WAITING_BYTES:
            text = (
                f"one channel is more than {MAX_WAITING_BYTES} bytes behind another: send audio of all, or EndOfChannel"
            )
            return Malformed(ErrorCode.RATE_LIMITED, text, fatal=True)
        return audio

    def take_all(self) -> bytes:
        """Return the interleaved audio that is left, with silence for what is missing."""
        return self._joiner.take(max_lag_bytes=0)


def names_of(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of channels. Raises ValueError for names that are empty, too long or not unique."""
    if len(set(labels)) != len(labels) or not all(0 < len(label) <= MAX_NAME for label in labels):
        raise ValueError(f"expected different names of 1 to {MAX_NAME} characters")
    return tuple(labels)
