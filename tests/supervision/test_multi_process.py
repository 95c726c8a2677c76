"""Several processes on the same ports: each port that is free to choose is chosen once for all of them."""

from __future__ import annotations

import sys

import pytest

from streamer.config import load
from streamer.config.sources import Override
from streamer.supervision.multi_process import _with_ports
from streamer.supervision.ports import SharedPorts

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several processes need Linux")


def resolved(serve: str) -> tuple[int, int]:
    """Return the ports of Wyoming and AudioSocket, of which any free ones were asked for."""
    flags = [
        Override("--set", "dialects.serve", serve),
        Override("--set", "dialects.wyoming_port", "-1"),
        Override("--set", "dialects.calls_audiosocket_port", "-1"),
        Override("--set", "server.port", "0"),
        Override("--set", "grpc.port", "0"),
    ]
    with SharedPorts() as ports:
        dialects = _with_ports(load(environ={}, flags=flags), ports).dialects
    return dialects.wyoming_port, dialects.calls_audiosocket_port


def test_ports_of_dialects_that_are_served_are_chosen_before_the_processes_start() -> None:
    wyoming, calls = resolved("all")
    assert wyoming > 0
    assert calls > 0
    assert wyoming != calls


def test_ports_of_other_dialects_are_not_taken() -> None:
    assert resolved("vosk") == (-1, -1)
    assert resolved("wyoming")[1] == -1
