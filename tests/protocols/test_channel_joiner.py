"""Channels that arrive in messages of their own become interleaved audio, however the messages are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.protocols.channel_joiner import ChannelJoiner

PIECES = st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=9)), max_size=20)


def samples(audio: bytes, width: int) -> list[bytes]:
    return [audio[at : at + width] for at in range(0, len(audio) - len(audio) % width, width)]


@given(PIECES, st.sampled_from([1, 2, 4]))
def test_each_channel_keeps_its_samples_and_silence_stands_for_the_rest(
    pieces: list[tuple[int, bytes]], width: int
) -> None:
    silence = b"\xff" * width
    joiner = ChannelJoiner(3, silence)
    whole, sent = b"", [b"", b"", b""]
    for channel, data in pieces:
        joiner.push(channel, data)
        sent[channel] += data
        whole += joiner.take()
        assert len(whole) == 3 * width * (min(map(len, sent)) // width)
    assert joiner.waiting_bytes + len(whole) == sum(map(len, sent))
    for channel in range(3):
        joiner.end(channel)
    assert joiner.is_ended
    whole += joiner.take()
    frames = samples(whole, 3 * width)
    for channel, audio in enumerate(sent):
        mine = [frame[channel * width : (channel + 1) * width] for frame in frames]
        expected = samples(audio, width)
        assert mine[: len(expected)] == expected
        assert set(mine[len(expected) :]) <= {silence}


def test_silence_stands_for_a_channel_that_is_late_by_more_than_the_limit() -> None:
    joiner = ChannelJoiner(2, b"\0\0")
    joiner.push(0, b"abcd")
    assert joiner.take(max_lag_bytes=4) == b""
    joiner.push(0, b"ef")
    assert joiner.take(max_lag_bytes=4) == b"ab\0\0cd\0\0ef\0\0"
    assert joiner.waiting_bytes == 0
