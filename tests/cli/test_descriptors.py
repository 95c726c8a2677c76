"""Descriptors of a real server: whatever the shell's soft limit was, it has as many as the system allows."""

from __future__ import annotations

import signal
import sys

import psutil
import pytest

from tests.cli.serving import served
from tests.cli.test_workers import QUICK, members

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="psutil knows the limit on Linux")

FEW = ("--set", "server.max_sessions=10", "--set", "server.max_handshakes=10", "--set", "grpc.max_connections=10")


def limited(words: str) -> tuple[str, ...]:
    """A shell with a limit of descriptors that runs a command."""
    return ("sh", "-c", f'{words}; exec "$@"', "sh")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_every_serving_process_has_the_hard_limit(processes: str) -> None:
    with served("stub", *QUICK, "--workers", processes, within=limited("ulimit -Sn 200; ulimit -Hn 800")) as server:
        limits = psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE)
        assert limits == (800, 800)
        others = [process.rlimit(psutil.RLIMIT_NOFILE) for process in members(server).values()]
        assert others == [limits] * (2 if processes == "2" else 0)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_settings_that_the_hard_limit_does_not_hold_are_warned_of_once(processes: str) -> None:
    for settings, times in ((), 1), (FEW, 0):
        with served("stub", *QUICK, *settings, "--workers", processes, within=limited("ulimit -n 800")) as server:
            server.signal(signal.SIGTERM)
            code, said = server.ended()
        assert code == 0
        assert (server.before + said).count("a process may open 800 files and connections here") == times
