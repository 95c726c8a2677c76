"""The process executor: a model in a process of its own, that may crash, hang or be killed without harm to the server.

The standard library's Process and Pipe, one process per worker, rather than a pool: a stream's state must stay on its
worker, partial answers must come before the call is over, and a death must be known at once (figures: docs/design).
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
    """The server's end of a worker process: its thread waits on the pipe, so the event loop never does."""

    def __init__(self, name: str, owner: WorkerOwner, host: Callable[[], ModelHost]) -> None:
        """`host` is called in the child: it must survive pickling."""
        super().__init__(name, owner)
        self._host = host
        self._process: SpawnProcess | None = None
        self._killed = False
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Of the child, once it is there."""
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
        with contextlib.suppress(EOFError, OSError):  # the child is gone; join() says how
            while (call := self._next_call()) is not None:
                self._exchange(ours, call)
            stopped = True
        ours.close()  # the child reads the end of its pipe and exits
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
        """A child that dies at rest is noticed at once: its thread stands in the queue then, not at the pipe."""
        wait([sentinel])
        self.stop()


def _exit_code(process: BaseProcess) -> int:
    """Waits for the end. Where another worker is started at this moment, its thread may reap this child, too
    (`multiprocessing` cleans up in `start`): then `join` finds no child and returns before the code is known."""
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
    """The child's life: calls in, replies out, until the pipe ends."""
    _die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):  # to the whole group: the server decides what they mean, and drains
        signal.signal(number, signal.SIG_IGN)
    process = psutil.Process()
    host = make_host()
    with contextlib.suppress(EOFError, OSError):  # the server has closed its end, or is gone
        while True:
            call = decode_call(pipe.recv_bytes())
            for reply in host.run(call):
                told = msgspec.structs.replace(reply, rss=process.memory_info().rss) if reply.done else reply
                pipe.send_bytes(encode(told))


def _die_with_parent() -> None:
    """Have this process end with its server: in the middle of a call, and on Linux while it is stopped, too.

    The kernel's signal comes when the thread that started this process ends. It is the `ProcessWorker`'s, which waits
    for this process.
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
