"""A server for bench_telemetry: as `streamer serve stub`, or deaf, which is what telemetry is compared with."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import Any

from streamer.app import App
from streamer.config import Settings
from streamer.parts import build
from streamer.runtime.control import Ready
from streamer.serving.ending import Ending
from streamer.serving.server import loop_factory, serve
from streamer.telemetry.hub import Telemetry
from streamer.telemetry.observer import Observer


class Deaf(Telemetry):
    """Hears nothing: the base class's empty methods in place of its own."""

    session = Observer.session
    scored = Observer.scored
    task = Observer.task

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
    with Ending() as ending:
        await serve(App(settings, parts=parts), ending, announce)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(deaf="deaf" in sys.argv))
