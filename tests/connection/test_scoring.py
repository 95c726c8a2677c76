"""The scoring service: one batch over everything that waits, fair, safe to leave, loud when it breaks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from streamer.audio.deferred_decoder import Pcm
from streamer.connection.executors import ThreadExecutor
from streamer.connection.scoring import ScoringPolicy, ScoringService
from streamer.testing.clock import ManualClock
from tests.audio.codings import kept
from tests.connection.scorers import Answers, CountingScorer, windows


@asynccontextmanager
async def serving(
    scorer: CountingScorer, policy: ScoringPolicy | None = None, clock: ManualClock | None = None
) -> AsyncIterator[tuple[ScoringService, Answers]]:
    service = ScoringService(scorer, executor=ThreadExecutor("speech-scorer"), policy=policy, clock=clock)
    await service.start()
    try:
        yield service, Answers(service)
    finally:
        if scorer.gate is not None:
            scorer.gate.release(1000)
        await service.stop()


async def entered(scorer: CountingScorer) -> None:
    """Until the thread is inside a batch."""
    await asyncio.to_thread(scorer.entered.acquire)


async def test_a_lone_window_is_scored_at_once() -> None:
    async with serving(CountingScorer()) as (service, answers):
        row = answers.open()
        answers.submit(row, windows(1, 0.5))
        assert await answers.wait(1) == [(row, [0.5])]
        assert service.stats.batches == service.stats.windows == service.stats.last_batch == 1
        assert service.stats.busy_seconds > 0


async def test_what_comes_in_one_turn_of_the_loop_is_one_batch() -> None:
    scorer = CountingScorer()
    async with serving(scorer) as (_, answers):
        for _ in range(5):
            answers.submit(answers.open(), windows(1))
        await answers.wait(5)
        assert scorer.batches == [[1] * 5]


async def test_scoring_is_off_the_loops_thread() -> None:
    scorer = CountingScorer()
    async with serving(scorer) as (_, answers):
        answers.submit(answers.open(), windows(1))
        await answers.wait(1)
        assert len(scorer.threads) == 1
        assert threading.get_ident() not in scorer.threads


async def test_what_comes_while_the_thread_is_busy_is_the_next_batch() -> None:
    scorer = CountingScorer()
    scorer.gate = threading.Semaphore(0)
    async with serving(scorer) as (service, answers):
        rows = [answers.open() for _ in range(4)]
        answers.submit(rows[0], windows(1))
        await entered(scorer)
        for row in rows[1:]:
            answers.submit(row, windows(1))
        assert service.stats.pending_rows == 3
        scorer.gate.release(2)
        await answers.wait(4)
        assert scorer.batches == [[1], [1, 1, 1]]


async def test_answers_never_come_before_submit_returns() -> None:
    async with serving(CountingScorer()) as (_, answers):
        answers.submit(answers.open(), windows(1))
        assert answers.all == []
        await answers.wait(1)


async def test_a_long_request_is_cut_and_answered_whole() -> None:
    scorer = CountingScorer()
    async with serving(scorer, ScoringPolicy(max_entry_windows=3)) as (_, answers):
        long, short = answers.open(), answers.open()
        answers.submit(long, windows(8))
        answers.submit(short, windows(1))
        assert await answers.wait(2) == [(short, [0]), (long, list(range(8)))]
        assert scorer.batches == [[3, 1], [3], [2]]


async def test_a_batch_is_shared_evenly_by_those_who_wait() -> None:
    scorer = CountingScorer()
    async with serving(scorer, ScoringPolicy(max_batch_windows=6, live_windows=1)) as (_, answers):
        for _ in range(3):
            answers.submit(answers.open(), windows(5))
        await answers.wait(3)
        assert scorer.batches == [[2, 2, 2], [2, 2, 2], [1, 1, 1]]


async def test_a_batch_is_never_more_than_full_and_who_had_no_room_comes_first() -> None:
    scorer = CountingScorer()
    async with serving(scorer, ScoringPolicy(max_batch_windows=6, live_windows=4)) as (service, answers):
        rows = [answers.open() for _ in range(4)]
        for row, count in zip(rows, (4, 3, 1, 2), strict=True):
            answers.submit(row, windows(count))
        told = [row for row, _ in await answers.wait(4)]
        assert scorer.batches == [[4, 2], [1, 2, 1]]
        assert told == [rows[0], rows[2], rows[3], rows[1]]
        assert service.stats.pending_rows == 0


async def test_in_a_crowd_windows_wait_for_company() -> None:
    scorer, clock = CountingScorer(), ManualClock()
    async with serving(scorer, ScoringPolicy(max_unbatched_rows=2, max_wait_s=0.010), clock) as (service, answers):
        rows = [answers.open() for _ in range(3)]
        answers.submit(rows[0], windows(1))
        clock.advance(0)  # no batch has been for long: no wait
        await answers.wait(1)
        clock.advance(0.004)
        answers.submit(rows[0], windows(1))
        clock.advance(0.004)
        answers.submit(rows[1], windows(1))
        answers.submit(rows[2], windows(1))
        clock.advance(0.0019)
        assert service.stats.pending_rows == 3
        clock.advance(0.0001)
        await answers.wait(4)
        assert scorer.batches == [[1], [1, 1, 1]]


async def test_a_full_batch_does_not_wait() -> None:
    scorer, clock = CountingScorer(), ManualClock()
    policy = ScoringPolicy(max_unbatched_rows=2, max_wait_s=0.010, max_batch_windows=3)
    async with serving(scorer, policy, clock) as (service, answers):
        rows = [answers.open() for _ in range(4)]
        answers.submit(rows[0], windows(1))
        clock.advance(0)
        await answers.wait(1)
        for row in rows[:2]:
            answers.submit(row, windows(1))
        clock.advance(0)
        assert service.stats.pending_rows == 2
        for row in rows[2:]:
            answers.submit(row, windows(1))
        clock.advance(0)
        await answers.wait(4)
        assert scorer.batches == [[1], [1, 1, 1]]
        clock.advance(0.0099)
        assert service.stats.pending_rows == 1, "what had no room waits for company like everybody"
        clock.advance(0.0001)
        await answers.wait(5)
        assert clock.timers == 0


async def test_few_rows_do_not_wait() -> None:
    scorer, clock = CountingScorer(), ManualClock()
    async with serving(scorer, ScoringPolicy(max_unbatched_rows=2, max_wait_s=0.010), clock) as (_, answers):
        row = answers.open()
        for turn in range(1, 4):
            answers.submit(row, windows(1))
            clock.advance(0)
            await answers.wait(turn)
        assert scorer.batches == [[1], [1], [1]]


async def test_a_row_carries_its_state_from_request_to_request() -> None:
    async with serving(CountingScorer()) as (_, answers):
        row = answers.open()
        for turn in range(3):
            answers.submit(row, windows(1))
            await answers.wait(turn + 1)
        assert answers.all == [(row, [0]), (row, [1]), (row, [2])]


async def test_reset_takes_effect_with_the_next_request_only() -> None:
    scorer = CountingScorer()
    scorer.gate = threading.Semaphore(0)
    async with serving(scorer, ScoringPolicy(max_entry_windows=2)) as (service, answers):
        row = answers.open()
        answers.submit(row, windows(4))
        await entered(scorer)
        service.reset(row)  # the request under way goes on as it began
        scorer.gate.release(10)
        await answers.wait(1)
        answers.submit(row, windows(2))
        await answers.wait(2)
        assert answers.all == [(row, [0, 1, 2, 3]), (row, [0, 1])]


async def test_a_row_closed_while_its_windows_are_scored_hears_nothing_more() -> None:
    scorer = CountingScorer()
    scorer.gate = threading.Semaphore(0)
    async with serving(scorer) as (service, answers):
        gone, stays = answers.open(), answers.open()
        answers.submit(gone, windows(1))
        answers.submit(stays, windows(1))
        await entered(scorer)
        service.close(gone)
        again = answers.open()
        assert again != gone
        scorer.gate.release(10)
        answers.submit(again, windows(1))
        assert await answers.wait(2) == [(stays, [0]), (again, [0])]
        assert len(scorer.heard) == service.stats.rows == 2


async def test_a_row_closed_while_it_waits_is_not_scored() -> None:
    scorer = CountingScorer()
    async with serving(scorer) as (service, answers):
        gone, stays = answers.open(), answers.open()
        answers.submit(gone, windows(1))
        service.reset(gone)
        service.close(gone)
        answers.submit(stays, windows(1))
        assert await answers.wait(1) == [(stays, [0])]
        assert scorer.batches == [[1]]


async def test_closed_rows_are_given_back_without_another_request() -> None:
    scorer = CountingScorer()
    async with serving(scorer) as (service, answers):
        row = answers.open()
        answers.submit(row, windows(1))
        await answers.wait(1)
        service.close(row)
        await asyncio.to_thread(scorer.emptied.wait)
        assert service.stats.batches == 1


async def test_an_error_in_the_scorer_fails_the_service_loudly(caplog: pytest.LogCaptureFixture) -> None:
    scorer = CountingScorer()
    scorer.error = ArithmeticError("the network is broken")
    failures: list[BaseException] = []
    failed = asyncio.Event()

    def on_failure(error: BaseException) -> None:
        failures.append(error)
        failed.set()

    service = ScoringService(scorer, executor=ThreadExecutor("speech-scorer"), on_failure=on_failure)
    await service.start()
    answers = Answers(service)
    row = answers.open()
    answers.submit(row, windows(1))
    await failed.wait()
    assert failures == [service.failure] == [scorer.error]
    assert "speech scoring failed" in caplog.text
    with pytest.raises(RuntimeError, match="speech scoring has failed"):
        service.submit(row, windows(1))
    with pytest.raises(RuntimeError, match="speech scoring has failed"):
        answers.open()
    service.close(row)
    await service.stop()
    assert answers.all == []


async def test_a_receiver_that_raises_does_not_disturb_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(CountingScorer()) as (service, answers):

        def broken(_: Sequence[float]) -> None:
            raise ArithmeticError("a receiver's fault")

        service.submit(service.open(broken), windows(1))
        answers.submit(row := answers.open(), windows(1))
        assert await answers.wait(1) == [(row, [0])]
        assert "a receiver of speech scores failed" in caplog.text


async def test_misuse_is_refused() -> None:
    service = ScoringService(CountingScorer())
    with pytest.raises(RuntimeError, match="not running"):
        service.open(lambda _: None)
    async with serving(CountingScorer()) as (service, answers):
        row = answers.open()
        with pytest.raises(ValueError, match="expected whole windows of 4 samples, encoded or float32, got array"):
            answers.submit(row, np.zeros(5, np.float32))
        with pytest.raises(ValueError, match="expected whole windows"):
            service.submit(row, np.zeros(4))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"expected whole windows .* got Pcm"):
            answers.submit(row, Pcm(kept(), bytes(5)))
        answers.submit(row, windows(1))
        with pytest.raises(RuntimeError, match="outstanding"):
            answers.submit(row, windows(1))
        with pytest.raises(KeyError):
            answers.submit(999, windows(1))
    with pytest.raises(RuntimeError, match="not running"):
        service.open(lambda _: None)


async def test_stop_ends_the_thread_and_gives_blas_its_threads_back() -> None:
    def blas() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = blas()
    scorer = CountingScorer()
    async with serving(scorer) as (service, answers):
        answers.submit(answers.open(), windows(1))
        await answers.wait(1)
        assert set(blas()) <= {1}
    await service.stop()  # idempotent
    assert blas() == before
    assert "speech-scorer" not in {thread.name for thread in threading.enumerate()}


async def test_on_the_loop_answers_come_in_a_later_turn_too() -> None:
    scorer = CountingScorer()
    service = ScoringService(scorer)
    with pytest.raises(RuntimeError, match="not running"):
        service.open(lambda _: None)
    await service.start()
    answers = Answers(service)
    rows = [answers.open() for _ in range(3)]
    for row in rows:
        answers.submit(row, windows(2))
    assert answers.all == []
    assert await answers.wait(3) == [(row, [0, 1]) for row in rows]
    assert scorer.threads == {threading.get_ident()}
    assert scorer.batches == [[2, 2, 2]]
    service.close(rows[0])
    scorer.error = ArithmeticError("broken")
    answers.submit(rows[1], windows(1))
    while service.failure is None:
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="has failed"):
        answers.submit(rows[2], windows(1))
    await service.stop()
    await service.stop()
    with pytest.raises(RuntimeError):
        service.open(lambda _: None)
