"""A crowd passes a few at a time, in order, and whoever is not in it is not kept waiting."""

from __future__ import annotations

import asyncio

from streamer.connection.loop_throttle import LoopThrottle


async def test_a_crowd_passes_a_few_in_each_turn_of_the_loop_and_in_order() -> None:
    turns, passed, seen = LoopThrottle(3), [], []

    async def one(number: int) -> None:
        await turns.acquire()
        passed.append(number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(10):
            tasks.create_task(one(number))
        while len(passed) < 10:
            before = len(passed)
            await asyncio.sleep(0)
            seen.append(len(passed) - before)
    assert passed == list(range(10))
    assert max(seen) <= 3


async def test_who_comes_alone_does_not_wait() -> None:
    turns = LoopThrottle(1)
    work = turns.acquire()
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


async def test_who_is_cancelled_while_waiting_takes_nobodys_turn() -> None:
    turns = LoopThrottle(1)
    tasks = [asyncio.create_task(turns.acquire()) for _ in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [False, True, False, False]
