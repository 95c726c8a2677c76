"""Base class of workers, a thread that takes calls from a queue and posts replies to the event loop; thread workers."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from queue import SimpleQueue
from typing import Protocol

from streamer.inference.model_runner import ModelRunner
from streamer.inference.overlapping import serve
from streamer.inference.worker_protocol import WorkerCall, WorkerReply


class WorkerOwner(Protocol):
    """Receives the events of a worker on the event loop."""

    def on_reply(self, worker: Worker, reply: WorkerReply) -> None: ...

    def on_exit(self, worker: Worker, cause: str) -> None:
        """Handle the end of a worker, its last event. `cause`: text for an operator."""


class Worker(ABC):
    """Runs one model, one call at a time unless its calls overlap.

    Its methods are called on the event loop and never block it.
    """

    def __init__(self, name: str, owner: WorkerOwner) -> None:
        self.name = name
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[WorkerCall | None] = SimpleQueue()
        # A daemon thread: a hung call must not keep the interpreter from exiting.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def call(self, call: WorkerCall) -> None:
        """Start a call. The one before must be done, unless the model's calls overlap."""
        self._calls.put(call)

    def stop(self) -> None:
        """Finish the running call, then stop."""
        self._calls.put(None)

    @abstractmethod
    def kill(self) -> None:
        """Stop immediately. A thread cannot be killed: it stops after its call."""

    @abstractmethod
    def _serve(self) -> str:
        """Answer calls until None arrives or the worker is lost; return the cause of the end. Runs on the thread."""

    def _next_call(self) -> WorkerCall | None:
        return self._calls.get()

    def _post(self, reply: WorkerReply) -> None:
        self._on_loop(self._owner.on_reply, reply)

    def _run(self) -> None:
        try:
            cause = self._serve()
        except Exception as error:  # noqa: BLE001 (the cause of the worker's end, which its owner counts and logs)
            cause = f"{type(error).__name__}: {error}"
        self._on_loop(self._owner.on_exit, cause)

    def _on_loop(self, callback: object, payload: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, self, payload)  # type: ignore[arg-type]
        except RuntimeError:  # the loop is closed
            if not self._loop.is_closed():
                raise


STOPPED = "stopped"


class ThreadWorker(Worker):
    """A model in a thread of this process, for one that releases the GIL or is quick: no copy, no protection."""

    def __init__(self, name: str, owner: WorkerOwner, host: Callable[[], ModelRunner]) -> None:
        super().__init__(name, owner)
        self._host = host

    def kill(self) -> None:
        """Do nothing: the thread ends after its call, or never if the call hangs."""
        self.stop()

    def _serve(self) -> str:
        with closing(self._host()) as host:
            serve(host, self._next_call, self._post)
        return STOPPED
