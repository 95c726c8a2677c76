"""The load is what it says: seeded, in order, as long and as loud as asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.files import AudioFile
from streamer.audio.format import AudioFormat, Encoding
from streamer.audio.pcm import Decoder
from streamer.errors import ConfigError
from streamer.loadtest.tape import TAPE_S, encode, make_tape, utterances
from streamer.loadtest.workload import Workload, chunk_frames, delays, schedule, split_streams

S16 = AudioFormat(Encoding.PCM_S16LE, 16_000, 1)


def workloads():
    return st.builds(
        Workload,
        chunk_frames=st.integers(80, 3_200),
        jitter_ms=st.sampled_from([0.0, 3.0, 70.0]),
        seed=st.integers(0, 5),
        ramp_s=st.sampled_from([0.0, 1.5]),
        warmup_s=st.just(0.5),
        seconds=st.floats(1, 5),
    )


@settings(max_examples=40)
@given(workloads(), st.integers(0, 9))
def test_messages_leave_in_order_and_never_before_they_were_spoken(workload, stream):
    plan = schedule(workload, stream, 10, 500, delays(workload))
    dues = list(plan.dues_s())
    spoken = [plan.begin_s + (chunk + 1) * plan.chunk_s for chunk in range(plan.count)]
    assert dues == sorted(dues)
    for due, at in zip(dues, spoken, strict=True):
        assert at <= due <= at + workload.jitter_ms / 1e3 + 1e-9


@settings(max_examples=40)
@given(workloads(), st.integers(0, 9))
def test_all_streams_speak_in_all_of_the_measured_time_and_end_spread_as_they_began(workload, stream):
    plan = schedule(workload, stream, 10, 500, delays(workload))
    assert 0 <= plan.begin_s < workload.ramp_s + workload.chunk_s
    end_s = plan.begin_s + plan.count * plan.chunk_s
    ends_s = workload.quiet_s + workload.seconds + workload.ramp_s * stream / 10
    assert ends_s - 1e-9 <= end_s < ends_s + workload.chunk_s


def test_same_seed_same_load_and_another_seed_another():
    def drawn(seed):
        workload = Workload(seed=seed, jitter_ms=5)
        plans = [schedule(workload, stream, 8, 3_000, delays(workload)) for stream in range(8)]
        return [(plan.offset, list(plan.dues_s())) for plan in plans]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len({offset for offset, _ in drawn(1)}) > 4


@given(st.integers(1, 1_000), st.integers(1, 64))
def test_every_stream_belongs_to_one_process(streams, processes):
    parts = split_streams(streams, processes)
    assert [stream for part in parts for stream in part] == list(range(streams))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_chunks_are_whole_frames():
    assert chunk_frames(S16, chunk_ms=20, chunk_bytes=None) == 320
    assert chunk_frames(S16, chunk_ms=20, chunk_bytes=256) == 128
    with pytest.raises(ConfigError, match=r"--chunk-bytes: expected a multiple of the 2 bytes of one frame, got 255"):
        chunk_frames(S16, chunk_ms=None, chunk_bytes=255)
    with pytest.raises(ConfigError, match=r"--duty: expected a number from 0.01 to 1, got 0"):
        Workload(speech_share=0)


def recording(rate=16_000):
    """Half a second of silence, one of a voice, one of silence, a third of a voice, silence."""
    chance = np.random.default_rng(0)
    parts = [chance.normal(0, level, int(rate * s)) for level, s in ((0, 0.5), (0.1, 1), (0, 1), (0.1, 0.33), (0, 0.4))]
    return AudioFile(np.concatenate(parts).astype(np.float32)[None], rate, "PCM_16")


def test_utterances_are_what_is_louder_than_its_surroundings():
    found = utterances(recording())
    assert [round(len(samples) / rate, 1) for samples, rate in found] == [1.2, 0.5]
    silence = AudioFile(np.zeros((1, 16_000), np.float32), 16_000, "PCM_16")
    with pytest.raises(ConfigError, match="audio that is not silent"):
        make_tape(Workload(), [silence])


@pytest.mark.parametrize("duty", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("chunk", [128, 333])
def test_tape_has_the_duty_asked_for_in_whole_chunks(duty, chunk):
    workload = Workload(chunk_frames=chunk, speech_share=duty)
    tape = make_tape(workload, [recording(8_000)])
    assert tape.speech == pytest.approx(duty, abs=0.08)
    assert {len(piece) for piece in tape.chunks} == {workload.chunk_bytes}
    assert len(tape.pcm) >= TAPE_S * 16_000 * 2
    assert tape == make_tape(workload, [recording(8_000)])


@pytest.mark.parametrize("encoding", list(Encoding))
def test_every_encoding_is_what_the_server_reads(encoding):
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, 400).astype(np.float32)
    format_ = AudioFormat(encoding, 16_000, 1)
    heard = Decoder(format_).push(encode(samples, format_))[0]
    coarse = encoding in {Encoding.PCM_U8, Encoding.MULAW, Encoding.ALAW}
    np.testing.assert_allclose(heard, samples, atol=0.04 if coarse else 1e-4)
