"""Whatever nobody caught is counted and logged, wherever it was raised."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading

import pytest

from streamer.telemetry.exception_hooks import ExceptionHooks
from streamer.telemetry.observer import Subsystem

Heard = asyncio.Queue[tuple[Subsystem, BaseException]]


async def heard_of(heard: Heard) -> tuple[Subsystem, BaseException]:
    async with asyncio.timeout(30):
        return await heard.get()


@pytest.fixture
async def heard() -> Heard:
    return asyncio.Queue()


def fail() -> None:
    raise ValueError("nobody caught me")


async def test_a_callback_that_raises(heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    with ExceptionHooks(loop, lambda *told: heard.put_nowait(told)):
        loop.call_soon(fail)
        where, error = await heard_of(heard)
    assert (where, str(error)) == (Subsystem.OTHER, "nobody caught me")
    assert "in fail" in caplog.text


async def test_a_task_that_failed_and_was_not_asked(heard: Heard) -> None:
    async def work() -> None:
        fail()

    with ExceptionHooks(asyncio.get_running_loop(), lambda *told: heard.put_nowait(told)):
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        gc.collect()
        assert isinstance((await heard_of(heard))[1], ValueError)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("speech-scorer", Subsystem.AUDIO_DECODING),
        ("streamer-worker-0", Subsystem.INFERENCE),
        ("mine", Subsystem.OTHER),
    ],
)
async def test_a_thread_by_whose_it_is(heard: Heard, name: str, where: Subsystem) -> None:
    with ExceptionHooks(asyncio.get_running_loop(), lambda *told: heard.put_nowait(told)):
        threading.Thread(target=fail, name=name).start()
        assert (await heard_of(heard))[0] is where


async def test_a_finaliser(heard: Heard) -> None:
    class Bad:
        def __del__(self) -> None:
            fail()

    with ExceptionHooks(asyncio.get_running_loop(), lambda *told: heard.put_nowait(told)):
        Bad()
        gc.collect()
        assert isinstance((await heard_of(heard))[1], ValueError)


async def test_what_was_there_before_is_put_back(heard: Heard) -> None:
    loop = asyncio.get_running_loop()
    before = sys.excepthook, threading.excepthook, sys.unraisablehook, loop.get_exception_handler()
    with ExceptionHooks(loop, lambda *told: heard.put_nowait(told)):
        pass
    assert before == (sys.excepthook, threading.excepthook, sys.unraisablehook, loop.get_exception_handler())


def test_the_last_error_of_a_process_is_told_too() -> None:
    script = """
from streamer.supervision.single_process import loop_factory
from streamer.telemetry.exception_hooks import ExceptionHooks
ExceptionHooks(loop_factory()(), lambda where, error: print("told", where, error, flush=True)).__enter__()
raise LookupError("the end")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "told other the end\n"
    assert "LookupError: the end" in done.stderr
    assert done.returncode == 1
