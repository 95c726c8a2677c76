"""AudioSocket's framing: bytes cut anywhere and of any kind."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import BadRequest
from streamer.protocols.audiosocket import RATES, AudioSocket, AudioSocketFrame, AudioSocketParser, encode_frame
from streamer.protocols.calls import CallEvent, CallReport
from streamer.protocols.twilio import Twilio
from streamer.session.events import Mode
from streamer.session.settings import SessionSettings
from tests.dialects.recogniser import recognise
from tests.protocols.played import Played

FRAMES = st.builds(AudioSocketFrame, st.sampled_from([0, 1, 3, 0xFF, *RATES]), st.binary(max_size=700))
TEXTS = st.text(max_size=40) | st.sampled_from(
    [
        '{"event":"connected"}',
        '{"event":"start","start":{"callSid":"CA","tracks":["inbound"]}}',
        '{"event":"media","media":{"payload":"////","track":"inbound"}}',
        '{"event":"media","media":{"payload":"////","track":"outbound"}}',
        '{"event":"dtmf","dtmf":{"digit":"1"}}',
        '{"event":"stop"}',
    ]
)


def parsed(data: bytes, cuts: list[int]) -> list[AudioSocketFrame]:
    parser, frames = AudioSocketParser(), []
    for start, end in pairwise([0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]):
        parser.feed(data[start:end])
        while (frame := parser.next()) is not None:
            frames.append(frame)
    return frames


@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(0, 5_000), max_size=20))
def test_frames_cut_anywhere_are_the_same_frames(frames: list[AudioSocketFrame], cuts: list[int]) -> None:
    assert parsed(b"".join(map(encode_frame, frames)), cuts) == frames


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_bytes_of_any_kind_are_frames_or_an_error(data: bytes, cuts: list[int]) -> None:
    message = ""
    try:
        parsed(data, cuts)
    except BadRequest as error:
        message = error.message
    assert len(message) < 200


def check(published: list[CallEvent]) -> None:
    """A call has one start, and nothing comes after its end."""
    kinds = [type(event).__name__ for event in published]
    assert kinds.count("CallStarted") == ("CallStarted" in kinds)
    assert kinds.count("CallEnded") <= 1
    if "CallEnded" in kinds:
        assert kinds[-1] == "CallEnded"


@given(st.lists(FRAMES, max_size=12))
def test_calls_of_asterisk_of_any_kind_are_told_in_order(frames: list[AudioSocketFrame]) -> None:
    published: list[CallEvent] = []
    codec = AudioSocket("id", CallReport("audiosocket", 16_000, published.append))
    Played(codec, SessionSettings(Mode.SEGMENTED), recognise).receive(*frames)
    check(published)


@given(st.lists(TEXTS | st.binary(max_size=20), max_size=12))
def test_calls_of_twilio_of_any_kind_are_told_in_order(frames: list[str | bytes]) -> None:
    published: list[CallEvent] = []
    codec = Twilio(CallReport("twilio", 16_000, published.append))
    Played(codec, SessionSettings(Mode.SEGMENTED), recognise).receive(*frames)
    check(published)
