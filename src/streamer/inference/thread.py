"""The thread executor: for models that release the GIL, or are quick. No copy, no process, no protection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from streamer.inference.executor import Worker, WorkerOwner
from streamer.inference.worker import ModelHost

STOPPED = "stopped"


class ThreadWorker(Worker):
    """A model in a thread of this process."""

    def __init__(self, name: str, owner: WorkerOwner, host: Callable[[], ModelHost]) -> None:
        super().__init__(name, owner)
        self._host = host

    def kill(self) -> None:
        """It ends after its call; if that never ends, neither does the thread."""
        self.stop()

    def _serve(self) -> str:
        with closing(self._host()) as host:
            while (call := self._next_call()) is not None:
                for reply in host.run(call):
                    self._post(reply)
        return STOPPED
