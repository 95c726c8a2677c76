"""The frames of a client, cut anywhere: whole messages of audio are found, and everything else is left alone."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.transports import websocket
from streamer.transports.frames import FrameError, FrameLimits, end_of_frame, is_fragmented_after, read_binary_messages
from streamer.transports.unmask import unmask
from tests.transports.wire_frames import BINARY, CONTINUATION, PING, TEXT, masked

LIMIT = 70_000
SIZES = st.sampled_from([0, 1, 2, 125, 126, 127, 640, 65_535])
masks = st.binary(min_size=4, max_size=4)
messages = st.tuples(st.binary(min_size=8, max_size=8), SIZES, masks).map(
    lambda drawn: ((drawn[0] * (drawn[1] // 8 + 1))[: drawn[1]], drawn[2])
)
others = st.builds(
    masked,
    st.sampled_from([TEXT, PING, CONTINUATION]),
    st.binary(max_size=125),
    masks,
    fin=st.just(True),
)


@given(st.lists(messages, max_size=6), others | st.just(b""), st.integers(0, 80))
def test_whole_messages_are_read_up_to_the_first_that_is_none(
    spoken: list[tuple[bytes, bytes]], other: bytes, cut: int
) -> None:
    whole = b"".join(masked(BINARY, payload, mask) for payload, mask in spoken)
    last = masked(BINARY, bytes(200), b"mask")
    data = whole + other + last[: min(cut, len(last) - 1)]
    heard, end = read_binary_messages(data, 0, 100, FrameLimits(LIMIT, 1 << 30), unmask)
    assert heard == [payload for payload, _ in spoken]
    assert end == len(whole)


@given(st.lists(messages, min_size=1, max_size=8), st.integers(1, 4), st.integers(0, 2_000))
def test_many_are_read_in_part_and_the_next_call_goes_on(
    spoken: list[tuple[bytes, bytes]], most: int, joined: int
) -> None:
    data = b"".join(masked(BINARY, payload, mask) for payload, mask in spoken)
    heard = []
    while data:
        some, end = read_binary_messages(data, 0, most, FrameLimits(LIMIT, joined), unmask)
        assert 1 <= len(some) <= most
        assert len(some) == 1 or sum(map(len, some)) <= joined
        heard += some
        data = data[end:]
    assert heard == [payload for payload, _ in spoken]


def test_no_frame_is_taken_for_audio_that_is_not() -> None:
    for frame in (
        masked(BINARY, b"part", b"mask", fin=False),
        masked(TEXT, b"text", b"mask"),
        bytes([0x80 | BINARY, 4]) + b"bare",  # not masked
        bytes([0xC0 | BINARY]) + masked(BINARY, b"rsv1", b"mask")[1:],
        bytes([0x80 | BINARY, 0xFF]) + (4).to_bytes(8, "big") + b"mask" + b"long",
    ):
        assert read_binary_messages(frame, 0, 9, FrameLimits(LIMIT, LIMIT), unmask) == ([], 0)


@given(st.integers(0, 600), st.integers(0, 600), st.binary(max_size=10))
def test_a_message_past_the_limit_is_left_alone_joined_or_not(limit: int, size: int, before: bytes) -> None:
    data = masked(BINARY, before, b"mask") + masked(BINARY, bytes(size), b"mask")
    heard, _ = read_binary_messages(data, 0, 9, FrameLimits(limit, limit), unmask)
    fitting = 0 if len(before) > limit else 1 if len(before) + size > limit else 2
    assert len(heard) == fitting


@given(
    st.lists(
        st.builds(masked, st.sampled_from([TEXT, PING, BINARY]), st.binary(max_size=125), masks)
        | st.builds(masked, st.just(BINARY), SIZES.map(bytes), masks)
        | st.just(masked(BINARY, bytes(66_000), b"mask")),
        max_size=6,
    ),
    st.data(),
)
def test_frames_that_are_not_looked_into_are_followed_to_their_end(frames: list[bytes], drawn: st.DataObject) -> None:
    data = b"".join(frames)
    ends, at = [0], 0
    for frame in frames:
        at += len(frame)
        ends.append(at)
    cut = data[: drawn.draw(st.integers(0, len(data)))]
    at = 0
    while end := end_of_frame(cut, at, LIMIT):
        at = end
    assert at == max(end for end in ends if end <= len(cut))


def test_parts_of_a_message_are_told_from_whole_ones() -> None:
    fragmented = False
    for frame, after in (
        (masked(BINARY, b"a", b"mask", fin=False), True),
        (masked(PING, b"", b"mask"), True),
        (masked(CONTINUATION, b"b", b"mask", fin=False), True),
        (masked(CONTINUATION, b"c", b"mask"), False),
        (masked(TEXT, b"d", b"mask"), False),
    ):
        fragmented = is_fragmented_after(frame[0], fragmented)
        assert fragmented is after


@given(st.binary(max_size=200))
@example(masked(BINARY, bytes(LIMIT + 1), b"mask")[:14])
@example(bytes([0x80 | BINARY, 0xFF]) + bytes([0xFF] * 8) + b"mask")
@example(bytes([0x80 | BINARY, 4]) + b"bare")
def test_noise_is_a_frame_or_is_waited_for_or_is_refused(noise: bytes) -> None:
    with suppress(FrameError):
        end = end_of_frame(noise, 0, LIMIT)
        assert 0 <= end <= len(noise)
        assert end or len(noise) < LIMIT + 14, "no more than one frame is waited for"


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (masked(BINARY, bytes(LIMIT + 1), b"mask")[:10], 1009),
        (masked(BINARY, bytes(2_001), b"mask")[:4], 1009),
        (bytes([0x80 | BINARY, 4]), 1002),  # not masked
        (bytes([0xC0 | BINARY, 0x84]), 1002),  # a reserved bit
        (bytes([0x83, 0xFF]), 1002),  # a reserved opcode that claims a payload
        (bytes([0x80 | PING, 0xFE]), 1002),  # a control frame of more than 125 bytes
        (bytes([PING, 0x80]), 1002),  # a control frame in pieces
    ],
)
def test_a_frame_that_cannot_be_accepted_is_refused_by_its_header(head: bytes, code: int) -> None:
    with pytest.raises(FrameError) as refusal:
        end_of_frame(head, 0, 2_000)
    assert refusal.value.code == code


@given(st.binary(max_size=40), masks)
def test_masking_is_undone_the_same_with_and_without_the_extension(data: bytes, mask: bytes) -> None:
    expected = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
    assert unmask(data, mask) == expected
    assert websocket._unmask(data, mask) == expected
