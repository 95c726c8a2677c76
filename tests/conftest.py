"""Rules for every test: it runs on the server's event loop, no property has a deadline, and a hang ends."""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings

from streamer.supervision.single_process import loop_factory

# The time that an example takes says how busy the machine is.
settings.register_profile("streamer", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("streamer")

TEARDOWN_S = 60.0
"""Time for the teardown of a test that failed."""


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the loop of `streamer serve`. A folder whose tests need another says so in a conftest.py of its own."""
    return {"served": loop_factory()}


class Hung(SystemExit):
    """End of a test that hangs. An event loop hands any other exception of a callback to its handler and goes on."""


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool | None:
    """Raise `Hung` out of the event loop when the time is up, and print where each task waits."""
    if settings.method != "signal":
        return None

    def end(number: int, frame: FrameType | None) -> None:
        for line in _waiting():
            print(line, file=sys.stderr)
        raise Hung(f"the test hangs: it was to end within {settings.timeout:g} s")

    def cancel() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        faulthandler.cancel_dump_traceback_later()

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout)
    item.cancel_timeout = cancel  # type: ignore[attr-defined]
    return True


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """End the process if what follows a failure hangs: uvloop never closes when a transport was left open."""
    if hasattr(node, "cancel_timeout") and not node.config.option.usepdb:
        faulthandler.dump_traceback_later(TEARDOWN_S, exit=True)


def _waiting() -> Iterator[str]:
    """Yield a line for each task of the running loop: its name, and its frames from the outermost to where it waits."""
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # no loop runs
        return
    for task in tasks:
        places, at = [], cast("Any", task.get_coro())
        while at is not None:
            frame = getattr(at, "cr_frame", None) or getattr(at, "gi_frame", None)
            if frame is not None:
                places.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
            at = getattr(at, "cr_await", None) or getattr(at, "gi_yieldfrom", None)
        yield f"{task.get_name()}: {' > '.join(places)}"
