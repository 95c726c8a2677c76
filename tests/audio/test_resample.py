"""Resampling: lengths, cuts, channels, quality."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.resample import Resampler, block_samples
from tests.audio.cuts import Samples, joined, sizes

RATES = [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000]


def noise(channels: int, n: int, seed: int = 0) -> Samples:
    return (0.2 * np.random.default_rng(seed).standard_normal((channels, n))).astype(np.float32)


def tone(hz: float, rate: int, seconds: float = 1.0) -> Samples:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)[None]


def resampled(x: Samples, rate_in: int, rate_out: int = 16_000) -> Samples:
    resampler = Resampler(rate_in, rate_out, len(x))
    return np.concatenate((resampler.push(x), resampler.flush()), axis=1)


def half_up(total_in: int, rate_in: int, rate_out: int) -> int:
    return (2 * total_in * rate_out + rate_in) // (2 * rate_in)


@given(
    rates=st.tuples(st.integers(4_000, 192_000), st.sampled_from([8_000, 16_000, 24_000]) | st.integers(4_000, 48_000)),
    stretches=st.lists(st.integers(0, 9_000), min_size=1, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_lengths_are_exact_after_every_flush(rates: tuple[int, int], stretches: list[int]) -> None:
    resampler = Resampler(*rates)
    total_in = total_out = 0
    for stretch in stretches:
        total_in += stretch
        total_out += resampler.push(noise(1, stretch)).shape[1] + resampler.flush().shape[1]
        assert total_out == half_up(total_in, *rates)
        assert resampler.held_samples == 0


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@given(lengths=sizes, flush_between=st.booleans())
@settings(max_examples=20, deadline=None)
def test_cuts_do_not_change_a_bit(rate: int, lengths: list[int], flush_between: bool) -> None:
    x = noise(2, rate // 4)
    whole, cut, single = (Resampler(rate, 16_000, 2) for _ in range(3))
    answers = [
        np.concatenate((whole.push(x), whole.flush()), axis=1),
        np.concatenate((joined(cut.push, x, lengths), cut.flush()), axis=1),
        np.concatenate((joined(single.push, x, [1] * x.shape[1]), single.flush()), axis=1),
    ]
    if flush_between:
        again = [np.concatenate((r.push(x), r.flush()), axis=1) for r in (whole, cut, single)]
        answers = [np.concatenate(pair, axis=1) for pair in zip(answers, again, strict=True)]
    assert answers[0].tobytes() == answers[1].tobytes() == answers[2].tobytes()


def test_stereo_with_resampling_does_not_underflow() -> None:
    # 20 ms messages of stereo, none a multiple of the resampler's own block, for two seconds.
    resampler = Resampler(44_100, 16_000, 2)
    x = noise(2, 88_200)
    out = [joined(resampler.push, x, [881] * 100), resampler.flush()]
    assert sum(y.shape[1] for y in out) == 32_000


def test_long_message_is_resampled_whole() -> None:
    resampler = Resampler(48_000, 16_000)
    ready = resampler.push(noise(1, 480_000)).shape[1]
    assert 160_000 - resampler.delay <= ready <= 160_000
    assert ready + resampler.flush().shape[1] == 160_000


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_channels_never_mix(rate: int) -> None:
    x = noise(4, rate // 2)
    x[1] = 0
    together = resampled(x, rate)
    assert not together[1].any()
    for channel in range(4):
        assert together[channel].tobytes() == resampled(x[channel : channel + 1], rate)[0].tobytes()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("part", [0.0125, 0.055, 0.25, 0.5, 0.75, 0.9])
def test_a_tone_in_band_comes_out_as_itself_and_in_place(rate: int, part: float) -> None:
    hz = part * min(rate, 16_000) / 2
    y = resampled(tone(hz, rate), rate)[0].astype(np.float64)
    expected = tone(hz, 16_000)[0].astype(np.float64)
    assert y @ expected / np.sqrt((y @ y) * (expected @ expected)) >= 0.999
    assert np.sqrt(y @ y / (expected @ expected)) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate > 16_000])
@pytest.mark.parametrize("part", [1.01, 1.1, 1.3])
def test_a_tone_above_the_new_nyquist_is_60_db_down(rate: int, part: float) -> None:
    # The edges, where the tone starts and stops, are broadband in truth: they are left out.
    x = tone(part * 8_000, rate)
    y = resampled(x, rate)[0, 1_600:-1_600]
    assert 20 * np.log10(np.sqrt(np.mean(y**2)) / np.sqrt(np.mean(x**2)) + 1e-12) <= -60


@pytest.mark.parametrize("rate", RATES)
def test_never_more_is_held_back_than_stated(rate: int) -> None:
    resampler = Resampler(rate, 16_000)
    for cut in range(0, rate, 7):
        resampler.push(noise(1, min(7, rate - cut)))
        assert 0 <= resampler.held_samples <= resampler.delay


@pytest.mark.parametrize("hz", [300, 1_000, 2_000, 3_400, 3_600])
def test_a_doubled_telephone_band_has_no_image(hz: int) -> None:
    y = resampled(tone(hz, 8_000), 8_000)[0, 1_600:-1_600]
    spectrum = np.abs(np.fft.rfft(y * np.hanning(len(y))))
    image = round((8_000 - hz) / 16_000 * len(y))
    assert 20 * np.log10(spectrum[image - 20 : image + 20].max() / spectrum.max()) <= -80


def test_a_telephone_call_waits_five_milliseconds() -> None:
    assert Resampler(8_000, 16_000).delay == 16 * 5


def test_equal_rates_hand_the_same_array_through() -> None:
    resampler = Resampler(16_000, 16_000, 2)
    x = noise(2, 777)
    assert resampler.push(x) is x
    assert resampler.flush().shape == (2, 0)
    assert resampler.delay == resampler.held_samples == 0


def test_a_flush_of_nothing_yields_nothing_and_disturbs_nothing() -> None:
    resampler = Resampler(48_000, 16_000)
    assert resampler.flush().shape == (1, 0)
    x = noise(1, 4_800)
    y = np.concatenate((resampler.push(x), resampler.flush()), axis=1)
    assert resampler.flush().shape == (1, 0)
    assert y.tobytes() == resampled(x, 48_000).tobytes()


@given(x=st.lists(st.sampled_from([0.0, 1.0, -1.0, 1e-40, 1e-30]), max_size=2_000))
@settings(max_examples=20, deadline=None)
def test_extreme_samples_stay_finite(x: list[float]) -> None:
    y = resampled(np.array([x], np.float32), 8_000)
    assert np.isfinite(y).all()
    assert (np.abs(y) < 3).all()  # the filter's weights, all taken positive, sum to 2.9


def test_a_short_rest_does_not_keep_a_long_message() -> None:
    resampler = Resampler(44_100, 16_000)
    resampler.push(noise(1, 44_100 + 1))
    assert resampler._pending.base is None
    block = block_samples(44_100, 16_000)
    assert block is not None
    assert resampler._pending.shape[1] < block


def test_a_resampler_makes_its_filter_when_audio_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Counted(soxr.ResampleStream):  # type: ignore[misc]
        def __init__(self, *shape: object, **more: object) -> None:
            made.append(shape)
            super().__init__(*shape, **more)

    resampler = Resampler(191_999, 16_000, 8)
    monkeypatch.setattr(soxr, "ResampleStream", Counted)
    assert resampler.flush().shape == (8, 0)
    assert made == []
    resampler.push(np.zeros((8, 19_200), np.float32))
    assert made == [(191_999, 16_000, 8)]
