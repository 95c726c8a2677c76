"""The scoring service over the real network: whoever is in a batch, everybody gets the scores that they get alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest

from streamer.audio.deferred_decoder import AudioSamples, Pcm
from streamer.connection.scoring import ScoringPolicy, ScoringService
from streamer.vad.silero import SileroScorer
from tests.audio.codings import kept
from tests.connection.scorers import Floats
from tests.vad.speech import synthetic


@asynccontextmanager
async def serving(policy: ScoringPolicy | None = None) -> AsyncIterator[ScoringService]:
    service = ScoringService(SileroScorer(), policy=policy)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def heard_by_each(service: ScoringService, streams: Iterable[Iterable[AudioSamples]]) -> list[list[float]]:
    """The scores of streams side by side, each a row that asks for piece after piece."""

    async def stream(pieces: Iterable[AudioSamples]) -> list[float]:
        answers: asyncio.Queue[Sequence[float]] = asyncio.Queue()
        row, heard = service.open(answers.put_nowait), []
        for piece in pieces:
            service.submit(row, piece)
            heard += await answers.get()
        service.close(row)
        return heard

    return await asyncio.gather(*map(stream, streams))


def alone(audio: Iterable[Floats]) -> list[Floats]:
    """What the network says of each when nobody is beside it."""
    scorer = SileroScorer()
    return [scorer.score([(scorer.open(), samples)])[0] for samples in audio]


def check(heard: Sequence[Sequence[float]], expected: Sequence[Floats]) -> None:
    for scores, right in zip(heard, expected, strict=True):
        assert np.allclose(scores, right, atol=1e-5)


async def test_many_streams_through_the_real_network_get_their_own_scores() -> None:
    audio = [synthetic(1.0, seed)[: 31 * 512] for seed in range(20)]

    def cut(samples: Floats, step: int) -> list[AudioSamples]:
        return [samples[at : at + step * 512] for at in range(0, len(samples), step * 512)]

    async with serving() as service:
        heard = await heard_by_each(service, [cut(samples, 1 + index % 3) for index, samples in enumerate(audio)])
    check(heard, alone(audio))
    assert service.stats.windows == 20 * 31
    assert service.stats.rows == 0


@pytest.mark.parametrize("rate", [8_000, 48_000])
async def test_windows_at_another_rate_get_the_scores_of_the_resampled(rate: int) -> None:
    coding = kept(rate=rate)
    step = coding.size(512)
    noise = np.random.default_rng(0)
    audio = [
        (noise.normal(0, 4_000, (30 * step + coding.context_bytes) // 2)).astype("<i2").tobytes() for _ in range(4)
    ]

    def cut(data: bytes, windows: int) -> list[AudioSamples]:
        size = windows * step
        return [Pcm(coding, data[at : at + size + coding.context_bytes]) for at in range(0, 30 * step, size)]

    async with serving(ScoringPolicy(max_entry_windows=4)) as service:
        heard = await heard_by_each(service, map(cut, audio, (1, 3, 6, 10)))
    check(heard, alone(map(coding.decode, audio)))


async def test_encoded_windows_get_the_scores_of_the_decoded() -> None:
    audio = [(synthetic(1.0, seed)[: 30 * 512] * 32_000).astype("<i2") for seed in range(5)]
    decoded = [(samples / np.float32(32_768)).astype(np.float32) for samples in audio]

    def cut(stream: int, step: int) -> list[AudioSamples]:
        """Now encoded, now not."""
        parts = [slice(at, at + step * 512) for at in range(0, 30 * 512, step * 512)]
        return [
            Pcm(kept(), audio[stream][part].tobytes()) if part.start % 3 else decoded[stream][part] for part in parts
        ]

    async with serving(ScoringPolicy(max_entry_windows=4)) as service:
        heard = await heard_by_each(service, map(cut, range(5), (1, 2, 3, 6, 10)))
    check(heard, alone(decoded))
