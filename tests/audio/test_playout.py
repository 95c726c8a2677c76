"""Playout of audio that arrives late: the gaps that a listener hears."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.audio.playout import JITTER_BUFFER_S, PlayoutBuffer


def test_audio_within_the_jitter_buffer_leaves_no_gap_and_later_audio_does() -> None:
    listener = PlayoutBuffer()
    assert listener.receive(0.0, 10.0) == 0.0
    assert listener.receive(0.02, 10.02 + JITTER_BUFFER_S - 0.001) == 0.0
    assert round(listener.receive(0.04, 10.04 + JITTER_BUFFER_S + 0.03), 6) == 0.03
    assert listener.receive(0.06, 10.06 + JITTER_BUFFER_S + 0.03) < 1e-9


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=50))
def test_gaps_are_what_the_latest_audio_is_later_than_the_buffer(delays: list[float]) -> None:
    listener = PlayoutBuffer()
    gaps = sum(listener.receive(0.02 * index, 100 + 0.02 * index + delay) for index, delay in enumerate(delays))
    assert abs(gaps - max(0.0, max(delays) - delays[0] - JITTER_BUFFER_S)) < 1e-6
