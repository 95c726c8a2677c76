"""Hooks for uncaught exceptions, which are counted and logged."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from streamer.telemetry.observer import Subsystem

log = logging.getLogger(__name__)

THREADS = {
    "speech-scorer": Subsystem.AUDIO_DECODING,
    "streamer-worker": Subsystem.INFERENCE,
    "streamer-spans": Subsystem.METRICS,
    "streamer-log": Subsystem.METRICS,
}
"""Subsystems by the prefix of a thread's name."""

ErrorHook = Callable[[Subsystem, BaseException], None]


class ExceptionHooks:
    """Handles every uncaught exception of the process while open: `with ExceptionHooks(loop, report)`.

    `on_error` is called on the event loop if it still runs. The previous hooks are restored at the end.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_error: ErrorHook) -> None:
        self._loop = loop
        self._on_error = on_error
        self._previous_hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)
        self._handler = loop.get_exception_handler()

    def __enter__(self) -> Self:
        self._loop.set_exception_handler(self._on_loop_error)
        threading.excepthook = self._on_thread_error
        sys.unraisablehook = self._on_unraisable
        sys.excepthook = self._on_fatal
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.set_exception_handler(self._handler)
        sys.excepthook, threading.excepthook, sys.unraisablehook = self._previous_hooks

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an error of a callback, or of a task that was not awaited."""
        error = context.get("exception") or RuntimeError(context.get("message", "no message"))
        log.error("unhandled error in the event loop: %s", context.get("message"), exc_info=error)
        self._on_error(Subsystem.OTHER, error)

    def _on_thread_error(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_value is None or isinstance(args.exc_value, SystemExit):
            return
        name = args.thread.name if args.thread is not None else "unknown"
        log.error("unhandled error in thread %s", name, exc_info=args.exc_value)
        where = next((part for begin, part in THREADS.items() if name.startswith(begin)), Subsystem.OTHER)
        self._report(where, args.exc_value)

    def _on_unraisable(self, args: sys.UnraisableHookArgs) -> None:
        """Handle an error that cannot be raised: in `__del__`, or during garbage collection."""
        if args.exc_value is not None:
            log.error("unraisable error: %s", args.err_msg or "in a finaliser", exc_info=args.exc_value)
            self._report(Subsystem.OTHER, args.exc_value)

    def _on_fatal(self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        """Handle the error that ends the process."""
        if not issubclass(kind, KeyboardInterrupt):
            log.critical("unhandled error: the process exits", exc_info=error)
            self._on_error(Subsystem.OTHER, error)
        self._previous_hooks[0](kind, error, traceback)

    def _report(self, where: Subsystem, error: BaseException) -> None:
        try:
            self._loop.call_soon_threadsafe(self._on_error, where, error)
        except RuntimeError:  # the loop is closed: no scrape follows
            self._on_error(where, error)
