"""What signals mean, and from when their times count."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time

import pytest

from streamer.supervision.shutdown import Shutdown


async def until_heard() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_first_signal_asks_for_a_drain_and_the_second_means_now() -> None:
    with Shutdown() as ending:
        signal.raise_signal(signal.SIGTERM)
        await ending.drain_requested.wait()
        assert (ending.grace_for_load_balancer, ending.immediate.is_set()) == (True, False)
        signal.raise_signal(signal.SIGINT)
        await ending.immediate.wait()
    assert ending.grace_for_load_balancer


async def test_ctrl_c_leaves_no_time_for_newcomers() -> None:
    with Shutdown() as ending:
        signal.raise_signal(signal.SIGINT)
        await ending.drain_requested.wait()
    assert not ending.grace_for_load_balancer


async def test_under_a_supervisor_any_number_of_signals_is_one_drain() -> None:
    with Shutdown(supervised=True) as ending:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
            await until_heard()
        ending.drain(lag=False)
        assert (ending.drain_requested.is_set(), ending.grace_for_load_balancer, ending.immediate.is_set()) == (
            True,
            True,
            False,
        )
        ending.end()
        assert ending.immediate.is_set()


async def test_a_busy_loop_hears_of_a_signal_late_and_its_time_counts_from_the_signal() -> None:
    with Shutdown() as ending:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.05)  # noqa: ASYNC251 (as a long turn of the loop would)
        await ending.drain_requested.wait()
        assert ending.seconds_since_request >= 0.05


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_mean_what_they_meant_before_once_it_is_over(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Shutdown():
        assert signal.getsignal(number) != before
    assert signal.getsignal(number) == before


AFTER_A_HANDLER_OF_C = """
import asyncio, ctypes, signal, sys

handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: None)
libc = ctypes.CDLL(None)
libc.signal.restype = ctypes.c_void_p
libc.signal(int(signal.SIGTERM), handler)
for name in ("signal", "_signal"):  # imported anew, it finds handlers as an embedded Python does
    del sys.modules[name]
import signal
assert signal.getsignal(signal.SIGTERM) is None
from streamer.supervision.shutdown import Shutdown

async def main():
    with Shutdown() as ending:
        signal.raise_signal(signal.SIGTERM)
        await ending.drain_requested.wait()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_handler_that_python_did_not_install_gives_way_to_the_default() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AFTER_A_HANDLER_OF_C], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
