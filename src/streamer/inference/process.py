"""Worker processes: a model in a process can crash, hang or be killed without affecting the server.

They use the standard library's Process and Pipe, not a pool: the state of a stream must stay on its worker, partial
answers must arrive before the end of a call, and a death must be noticed at once (figures: docs/design).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess

import msgspec
import psutil

from streamer import parent_death
from streamer.inference.calls import Call, decode_call, decode_reply, encode
from streamer.inference.executor import Worker, WorkerOwner
from streamer.inference.worker import ModelHost

STOPPED = "stopped"


class ProcessWorker(Worker):
    """Parent side of a worker process. Its thread waits on the pipe, so the event loop never does."""

    def __init__(self, name: str, owner: WorkerOwner, host: Callable[[], ModelHost]) -> None:
        """Prepare a worker. `host` is called in the child and must be picklable."""
        super().__init__(name, owner)
        self._host = host
        self._process: SpawnProcess | None = None
        self._killed = False
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process id of the child, once it has started."""
        return self._process.pid if self._process is not None else None

    def kill(self) -> None:
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()
        self.stop()

    def _serve(self) -> str:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_main, args=(theirs, self._host), name=self.name, daemon=True)
        process.start()
        theirs.close()
        with self._lock:
            self._process = process
            if self._killed:
                process.kill()
        watch = threading.Thread(target=self._watch, args=(process.sentinel,), name=f"{self.name}-watch", daemon=True)
        watch.start()
        stopped = False
        with contextlib.suppress(EOFError, OSError):  # the child has exited; join() tells how
            while (call := self._next_call()) is not None:
                self._exchange(ours, call)
            stopped = True
        ours.close()  # the child reads EOF and exits
        code = _exit_code(process)
        watch.join()
        with self._lock:
            self._process = None
        process.close()
        return STOPPED if stopped and code == 0 else _cause(code)

    def _exchange(self, pipe: Connection, call: Call) -> None:
        pipe.send_bytes(encode(call))
        while True:
            reply = decode_reply(pipe.recv_bytes())
            self._post(reply)
            if reply.done:
                return

    def _watch(self, sentinel: int) -> None:
        """Notice the death of an idle child at once: its thread waits at the queue then, not at the pipe."""
        wait([sentinel])
        self.stop()


def _exit_code(process: BaseProcess) -> int:
    """Wait for the exit of the process and return its code.

    If another worker is started at this moment, its thread may reap this child as well (`multiprocessing` cleans up in
    `start`). Then `join` finds no child and returns before the code is known.
    """
    process.join()
    while (code := process.exitcode) is None:
        time.sleep(0.001)
    return code


def _cause(exitcode: int) -> str:
    if exitcode < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-exitcode).name}"
    return f"exited with code {exitcode}"


def _main(pipe: Connection, make_host: Callable[[], ModelHost]) -> None:
    """Run the child: answer calls until the pipe is closed."""
    _die_with_parent()
    # signals reach the whole process group: the server decides and drains
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    process = psutil.Process()
    host = make_host()
    with contextlib.suppress(EOFError, OSError):  # the server has closed its end or exited
        while True:
            call = decode_call(pipe.recv_bytes())
            for reply in host.run(call):
                told = msgspec.structs.replace(reply, rss=process.memory_info().rss) if reply.done else reply
                pipe.send_bytes(encode(told))


def _die_with_parent() -> None:
    """Exit with the server: during a call, and on Linux also while this process is stopped.

    The kernel sends the signal when the thread that started this process ends. That is the thread of the
    `ProcessWorker`, which waits for this process.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent_death.request_signal(signal.SIGKILL)
    if os.getppid() != parent.pid:
        os._exit(1)
    threading.Thread(target=_end_after, args=(parent.sentinel,), name="parent-watch", daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
