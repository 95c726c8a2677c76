"""A server for bench_telemetry: as `streamer serve stub`, or deaf, which is what telemetry is compared with."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import Any

from streamer.app import App
from streamer.config import Settings
from streamer.parts import build
from streamer.supervision.ipc import Ready
from streamer.supervision.shutdown import Shutdown
from streamer.supervision.single_process import loop_factory, serve
from streamer.telemetry.observer import Observer
from streamer.telemetry.telemetry import Telemetry


class Deaf(Telemetry):
    """Hears nothing: the base class's empty methods in place of its own."""

    new_session = Observer.new_session
    on_batch_scored = Observer.on_batch_scored
    instrument_task = Observer.instrument_task

    def batch_started(self, *_: Any) -> None: ...

    def batch_finished(self, *_: Any) -> None: ...

    def start(self) -> None: ...


def announce(ready: Ready) -> None:
    print(ready.url, flush=True)


async def main(*, deaf: bool) -> None:
    settings = Settings(server={"port": 0}, model={"delay": 0.02, "constant_factor": 0.0, "jitter": 0.0})
    parts = build(settings)
    if deaf:
        nobody = Deaf("stub")
        parts.scoring._observer = nobody  # type: ignore[attr-defined]
        parts.engine._observer._listeners[:] = []  # type: ignore[attr-defined]
        parts = replace(parts, telemetry=nobody)
    with Shutdown() as ending:
        await serve(App(settings, parts=parts), ending, announce)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(deaf="deaf" in sys.argv))
