"""One app in this process, from its settings to its end, and the event loop it runs on."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable

from streamer.app import App, Grpc, Shared
from streamer.config import Loaded
from streamer.errors import ConfigError, ListenFailed, ModelLoadError
from streamer.runtime.control import Ready
from streamer.serving import descriptors
from streamer.serving.ebb import give_back, trim_heap
from streamer.serving.ending import Ending
from streamer.telemetry.guard import Guard
from streamer.telemetry.logs import Logs


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where there is one."""
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop  # noqa: PLC0415 (only on the platforms that have it)

    return uvloop.new_event_loop


Refusal = ConfigError | ListenFailed | ModelLoadError
"""Why a server does not come up."""

FULL_COLLECTION_AFTER = 50
"""Collections of the middle generation between two of everything, where Python says 10. A session that ends leaves
nothing to collect, and while a crowd comes all is walked again and again in vain: 0.4 s each time with 10 000 there."""

log = logging.getLogger(__name__)


def exit_code(refusal: Refusal) -> int:
    """2 where something has to be set differently, 1 where it may work another time."""
    return 1 if isinstance(refusal, ListenFailed) else 2


def open_app(loaded: Loaded, logs: Logs, *, shared: Shared | None = None) -> App:
    """The app of these settings, not started. Raises ModelLoadError, or a ConfigError that says who set it wrong."""
    asked_for = loaded.origin("grpc.port") != "default"
    try:
        app = App(loaded.settings, grpc=Grpc.NEEDED if asked_for else Grpc.IF_POSSIBLE, shared=shared)
    except ConfigError as error:  # the model knows its parameters, we know who set them
        raise ConfigError(f"{loaded.origin(error.field or '')}: {error.message}") from None
    app.telemetry.watch_log(logs)
    return app


async def serve(app: App, ending: Ending, announce: Callable[[Ready], None]) -> None:
    """Run until it is told to end. `announce` is called once it is ready. Raises what `App.start` raises."""
    with Guard(asyncio.get_running_loop(), app.telemetry.broken):
        try:
            if not await ending.unless(ending.asked, app.start()):
                return
            _spare_what_stays()
            announce(Ready(app.url, app.grpc_url, app.model.name, app.model.sample_rate))
            async with asyncio.TaskGroup() as tasks:
                giving_back = tasks.create_task(give_back(lambda: len(app.conductor), trim_heap), name="give-back")
                await ending.asked.wait()
                giving_back.cancel()
            lag_s = app.settings.drain.lag_s if ending.lag else 0.0
            if not await ending.unless(ending.now, app.drain(lag_s=lag_s, late_s=ending.asked_s_ago)):
                log.warning("second signal received: %d sessions are cut off now", len(app.conductor))
        finally:
            await app.stop()


def _spare_what_stays() -> None:
    """What is there now stays: modules, the model, the scorer. While the collector looks at all of it the event loop
    stands still: for 50 ms at 400 streams, and for 16 ms without what stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTION_AFTER)


async def serve_alone(loaded: Loaded, logs: Logs, announce: Callable[[Ready], None]) -> None:
    """The whole server, until a signal. Raises what `open_app` and `serve` raise."""
    with Ending() as ending:
        descriptors.provide(loaded.settings)
        await serve(open_app(loaded, logs), ending, announce)
