"""The least of a WebSocket client reads what a server writes, however it arrives."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.loadtest.load_client import MAX_EVENT_BYTES
from streamer.loadtest.websocket_client import BINARY, PING, TEXT, FrameParser, frame


def served(opcode, payload, *, final=True):
    """A server's frame, which has no mask."""
    size = len(payload)
    length = (
        bytes([size]) if size < 126 else struct.pack("!BH", 126, size) if size < 65_536 else b"\x7f" + size.to_bytes(8)
    )
    return bytes([final << 7 | opcode]) + length + payload


@given(
    st.lists(st.tuples(st.sampled_from([TEXT, BINARY, PING]), st.sampled_from([0, 1, 125, 126, 70_000])), max_size=4),
    st.lists(st.integers(0, 200_000), max_size=6),
)
def test_any_cut_gives_the_same_messages(kinds, cuts):
    messages = [
        (opcode, bytes([index]) * min(size, 125 if opcode == PING else size))
        for index, (opcode, size) in enumerate(kinds)
    ]
    data = b"".join(served(*message) for message in messages)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    frames = FrameParser()
    heard = [message for low, high in pairwise(bounds) for message in frames.push(data[low:high])]
    assert heard == messages


def test_fragments_are_joined_and_control_frames_may_come_between():
    frames = FrameParser()
    data = served(TEXT, b"ab", final=False) + served(PING, b"!") + served(0, b"c")
    assert list(frames.push(data)) == [(PING, b"!"), (TEXT, b"abc")]


@pytest.mark.parametrize("data", [b"\xc1\x00", b"\x81\x7f" + (MAX_EVENT_BYTES + 1).to_bytes(8)])
def test_what_cannot_be_read_is_refused(data):
    with pytest.raises(ValueError, match=r"unreadable WebSocket frame|message too long"):
        list(FrameParser().push(data))


def test_frames_of_every_length_are_masked_with_zeros():
    for size in (0, 125, 126, 65_535, 65_536):
        built = frame(BINARY, bytes(size))
        assert built[0] == 0x82
        assert built[1] & 0x80
        assert len(built) - size in (6, 8, 14)
