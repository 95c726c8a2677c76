"""What gRPC is told by the environment: only where nobody else has said it, and nothing that it does not know."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version

from streamer.transports.grpc.environment import FEWER_THREADS, KNOWN_UP_TO, set_defaults

LISTEN = """
import asyncio, grpc.aio
from streamer.supervision.single_process import loop_factory
async def main():
    server = grpc.aio.server()
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await server.stop(None)
with asyncio.Runner(loop_factory=loop_factory()) as runner:
    runner.run(main())
"""


def test_what_is_said_already_stays() -> None:
    environment = {"GRPC_VERBOSITY": "DEBUG", "GRPC_EXPERIMENTS": ""}
    set_defaults(environment)
    assert environment == {"GRPC_VERBOSITY": "DEBUG", "GRPC_EXPERIMENTS": ""}


def test_the_installed_release_knows_the_switch() -> None:
    """Where this fails after an update: measure anew with benchmarks/bench_grpc.py, then move KNOWN_UP_TO."""
    environment: dict[str, str] = {}
    set_defaults(environment)
    assert environment.get("GRPC_EXPERIMENTS") == FEWER_THREADS, (version("grpcio"), KNOWN_UP_TO)
    done = subprocess.run(
        [sys.executable, "-c", LISTEN], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
