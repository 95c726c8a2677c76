"""One app in this process, from its settings to its end, and the event loop it runs on."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable

from streamer.app import App, GrpcAvailability, ProcessShared
from streamer.config import LoadedSettings
from streamer.errors import ConfigError, ListenFailed, ModelLoadError
from streamer.supervision import descriptors
from streamer.supervision.heap_trim import trim_after_peaks, trim_heap
from streamer.supervision.ipc import Ready
from streamer.supervision.shutdown import Shutdown
from streamer.telemetry.exception_hooks import ExceptionHooks
from streamer.telemetry.logs import Logs


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the factory of uvloop's event loop, or of asyncio's on Windows."""
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop  # noqa: PLC0415 (only on the platforms that have it)

    return uvloop.new_event_loop


StartupError = ConfigError | ListenFailed | ModelLoadError
"""Errors that prevent the start of a server."""

FULL_COLLECTION_AFTER = 50
"""Collections of the middle generation per full collection; Python's default is 10. A session that ends leaves nothing
to collect, and full collections during a peak take 0.4 s each with 10 000 sessions."""

log = logging.getLogger(__name__)


def exit_code(refusal: StartupError) -> int:
    """Return the exit code: 2 for a wrong setting, 1 if a later attempt may succeed."""
    return 1 if isinstance(refusal, ListenFailed) else 2


def open_app(loaded: LoadedSettings, logs: Logs, *, shared: ProcessShared | None = None) -> App:
    """Create the app of these settings, without starting it.

    Raises ModelLoadError, or a ConfigError that names the source of the setting.
    """
    asked_for = loaded.origin("grpc.port") != "default"
    try:
        app = App(
            loaded.settings, grpc=GrpcAvailability.REQUIRED if asked_for else GrpcAvailability.OPTIONAL, shared=shared
        )
    except ConfigError as error:  # the model knows its parameters, this function their sources
        raise ConfigError(f"{loaded.origin(error.field or '')}: {error.message}") from None
    app.telemetry.watch_log(logs)
    return app


async def serve(app: App, ending: Shutdown, announce: Callable[[Ready], None]) -> None:
    """Run the app until it is stopped. `announce` is called once it is ready. Raises the errors of `App.start`."""
    with ExceptionHooks(asyncio.get_running_loop(), app.telemetry.unexpected_error):
        try:
            if not await ending.run_until(ending.drain_requested, app.start()):
                return
            _freeze_startup_objects()
            names = app.models.names if app.models is not None else ()
            model, labels = app.model, app.dialects.labels
            announce(Ready(app.url, app.grpc_url, model.name, model.sample_rate, names, labels))
            async with asyncio.TaskGroup() as tasks:
                giving_back = tasks.create_task(
                    trim_after_peaks(lambda: len(app.connections), trim_heap), name="give-back"
                )
                await ending.drain_requested.wait()
                giving_back.cancel()
            lag_s = app.settings.drain.lag_s if ending.grace_for_load_balancer else 0.0
            if not await ending.run_until(
                ending.immediate, app.drain(lag_s=lag_s, late_s=ending.seconds_since_request)
            ):
                log.warning("second signal received: %d sessions are cut off now", len(app.connections))
        finally:
            await app.stop()


def _freeze_startup_objects() -> None:
    """Exempt modules, model and scorer from garbage collection.

    A full collection blocks the event loop: for 50 ms at 400 streams, and for 16 ms without these objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTION_AFTER)


async def run_single_process(loaded: LoadedSettings, logs: Logs, announce: Callable[[Ready], None]) -> None:
    """Run the whole server until a signal. Raises the errors of `open_app` and `serve`."""
    with Shutdown() as ending:
        descriptors.ensure_limit(loaded.settings)
        await serve(open_app(loaded, logs), ending, announce)
