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
    """Return the factory of uvloop's event loop, or of asyncio's on Windows."""
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop  # noqa: PLC0415 (only on the platforms that have it)

    return uvloop.new_event_loop


Refusal = ConfigError | ListenFailed | ModelLoadError
"""Errors that prevent the start of a server."""

FULL_COLLECTION_AFTER = 50
"""Collections of the middle generation per full collection; Python's default is 10. A session that ends leaves nothing
to collect, and full collections during a peak take 0.4 s each with 10 000 sessions."""

log = logging.getLogger(__name__)


def exit_code(refusal: Refusal) -> int:
    """Return the exit code: 2 for a wrong setting, 1 if a later attempt may succeed."""
    return 1 if isinstance(refusal, ListenFailed) else 2


def open_app(loaded: Loaded, logs: Logs, *, shared: Shared | None = None) -> App:
    """Create the app of these settings, without starting it.

    Raises ModelLoadError, or a ConfigError that names the source of the setting.
    """
    asked_for = loaded.origin("grpc.port") != "default"
    try:
        app = App(loaded.settings, grpc=Grpc.NEEDED if asked_for else Grpc.IF_POSSIBLE, shared=shared)
    except ConfigError as error:  # the model knows its parameters, this function their sources
        raise ConfigError(f"{loaded.origin(error.field or '')}: {error.message}") from None
    app.telemetry.watch_log(logs)
    return app


async def serve(app: App, ending: Ending, announce: Callable[[Ready], None]) -> None:
    """Run the app until it is stopped. `announce` is called once it is ready. Raises the errors of `App.start`."""
    with Guard(asyncio.get_running_loop(), app.telemetry.broken):
        try:
            if not await ending.unless(ending.asked, app.start()):
                return
            _spare_what_stays()
            names = app.models.names if app.models is not None else ()
            announce(Ready(app.url, app.grpc_url, app.model.name, app.model.sample_rate, names))
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
    """Exempt modules, model and scorer from garbage collection.

    A full collection blocks the event loop: for 50 ms at 400 streams, and for 16 ms without these objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTION_AFTER)


async def serve_alone(loaded: Loaded, logs: Logs, announce: Callable[[Ready], None]) -> None:
    """Run the whole server until a signal. Raises the errors of `open_app` and `serve`."""
    with Ending() as ending:
        descriptors.provide(loaded.settings)
        await serve(open_app(loaded, logs), ending, announce)
