"""Joining of channels that arrive in messages of their own, as the interleaved audio that a stream has."""

from __future__ import annotations


class ChannelJoiner:
    """Audio of each channel that waits for that of the others, in bytes. Messages may be cut within a sample.

    `silence`: one sample of it, which stands for audio that does not come.
    """

    def __init__(self, channels: int, silence: bytes) -> None:
        self._silence = silence
        self._waiting = [bytearray() for _ in range(channels)]
        self._ended: set[int] = set()

    @property
    def waiting_bytes(self) -> int:
        """Audio that waits for that of another channel."""
        return sum(map(len, self._waiting))

    @property
    def is_ended(self) -> bool:
        """Whether all channels have ended."""
        return len(self._ended) == len(self._waiting)

    def push(self, channel: int, data: bytes) -> None:
        """Add audio of a channel."""
        self._waiting[channel] += data

    def end(self, channel: int) -> None:
        """End a channel; silence stands for it while the others go on."""
        self._ended.add(channel)

    def take(self, *, max_lag_bytes: int | None = None) -> bytes:
        """Return the audio that all channels have, interleaved.

        `max_lag_bytes`: silence stands for the audio of a channel that is further behind the first one; None if the
        first one waits.
        """
        longest = max(map(len, self._waiting))
        for index, audio in enumerate(self._waiting):
            late = longest - len(audio)
            if index in self._ended or (max_lag_bytes is not None and late > max_lag_bytes):
                self._fill(audio, longest)
        return self._interleave(min(map(len, self._waiting)) // len(self._silence))

    def _fill(self, audio: bytearray, size: int) -> None:
        """Append silence up to `size` bytes, from the next whole sample on."""
        width = len(self._silence)
        del audio[len(audio) - len(audio) % width :]
        audio += self._silence * (-(-size // width) - len(audio) // width)

    def _interleave(self, samples: int) -> bytes:
        """Take this number of samples of each channel."""
        width, channels = len(self._silence), len(self._waiting)
        size = samples * width
        whole = bytearray(size * channels)
        for index, audio in enumerate(self._waiting):
            for byte in range(width):
                whole[index * width + byte :: width * channels] = audio[byte:size:width]
            del audio[:size]
        return bytes(whole)
