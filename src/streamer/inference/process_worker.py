"""Worker processes: a model in a process can crash, hang or be killed without affecting the server.

They use the standard library's Process and Pipe, not a pool: the state of a stream must stay on its worker, partial
answers must arrive before the end of a call, and a death must be noticed at once (figures: docs/design).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
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
from streamer.inference.model_runner import Host
from streamer.inference.overlapping import serve
from streamer.inference.worker_protocol import WorkerCall, WorkerReply, decode_call, decode_reply, encode
from streamer.inference.workers import Worker, WorkerOwner

STOPPED = "stopped"
_LINES_S = 1.0
"""Time in seconds to read the last lines of a child that has ended."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_NO_MORE = b""
"""Message after the last call, if replies are read at the same time: a connection that is read cannot be closed."""
_MAX_LINE = 2_000
"""Characters of a line; a longer one is several."""


class ProcessWorker(Worker):
    """Parent side of a worker process. Its thread waits on the pipe, so the event loop never does."""

    def __init__(
        self,
        name: str,
        owner: WorkerOwner,
        host: Callable[[], Host],
        on_line: Callable[[str], None] | None = None,
        *,
        overlaps: bool = False,
    ) -> None:
        """Prepare a worker. `host` is called in the child and must be picklable.

        `on_line`: called on a thread with each line that the child writes to its standard output and error; None: they
        are the server's own. `overlaps`: calls are sent without waiting for the replies to the ones before.
        """
        super().__init__(name, owner)
        self._host = host
        self._on_line = on_line
        self._overlaps = overlaps
        self._last_line = ""
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
        reading, writing = context.Pipe(duplex=False) if self._on_line is not None else (None, None)
        process = context.Process(target=_main, args=(theirs, self._host, writing), name=self.name, daemon=True)
        process.start()
        theirs.close()
        lines = None
        if reading is not None and writing is not None:
            writing.close()
            lines = threading.Thread(target=self._read_lines, args=(reading,), name=f"{self.name}-lines", daemon=True)
            lines.start()
        with self._lock:
            self._process = process
            if self._killed:
                process.kill()
        watch = threading.Thread(target=self._watch, args=(process.sentinel,), name=f"{self.name}-watch", daemon=True)
        watch.start()
        replies = None
        if self._overlaps:
            arguments = (ours, process.sentinel)
            replies = threading.Thread(
                target=self._read_replies, args=arguments, name=f"{self.name}-replies", daemon=True
            )
            replies.start()
        stopped = False
        with contextlib.suppress(EOFError, OSError):  # the child has exited; join() tells how
            while (call := self._next_call()) is not None:
                if replies is None:
                    self._exchange(ours, call)
                else:
                    ours.send_bytes(encode(call))
            stopped = True
            if replies is not None:
                ours.send_bytes(_NO_MORE)
        if replies is not None:  # it reads until the child has exited
            replies.join()
        ours.close()  # the child reads EOF and exits
        code = _exit_code(process)
        watch.join()
        if lines is not None:
            lines.join(_LINES_S)  # they end with the child, unless it left a child of its own
        with self._lock:
            self._process = None
        process.close()
        return STOPPED if stopped and code == 0 else _cause(code, self._last_line)

    def _exchange(self, pipe: Connection, call: WorkerCall) -> None:
        pipe.send_bytes(encode(call))
        while True:
            reply = decode_reply(pipe.recv_bytes())
            self._last_line = ""  # lines before an answer are not the cause of a death
            self._post(reply)
            if reply.done:
                return

    def _read_replies(self, pipe: Connection, sentinel: int) -> None:
        """Post the replies to overlapping calls until the child has exited."""
        with contextlib.suppress(EOFError, OSError):
            while pipe in wait([pipe, sentinel]):
                reply = decode_reply(pipe.recv_bytes())
                self._last_line = ""
                self._post(reply)

    def _read_lines(self, reading: Connection) -> None:
        with open(os.dup(reading.fileno()), encoding="utf-8", errors="replace") as lines:
            reading.close()
            while line := lines.readline(_MAX_LINE):
                if text := _COLOUR.sub("", line).strip():
                    self._last_line = text
                    assert self._on_line is not None
                    self._on_line(text)

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


def _cause(exitcode: int, last_line: str = "") -> str:
    if exitcode < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-exitcode).name}"
    return f"exited with code {exitcode}" + (f" ({last_line})" if last_line else "")


def _main(pipe: Connection, make_host: Callable[[], Host], writing: Connection | None) -> None:
    """Run the child: answer calls until the pipe is closed. `writing`: takes its standard output and error."""
    _die_with_parent()
    if writing is not None:
        for descriptor in (1, 2):
            os.dup2(writing.fileno(), descriptor)
        writing.close()
    # signals reach the whole process group: the server decides and drains
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    process = psutil.Process()

    def next_call() -> WorkerCall | None:
        try:
            message = pipe.recv_bytes()
        except (EOFError, OSError):
            return None
        return decode_call(message) if message != _NO_MORE else None

    def post(reply: WorkerReply) -> None:
        own = reply.done and not reply.rss  # unless the model is elsewhere
        message = msgspec.structs.replace(reply, rss=process.memory_info().rss) if own else reply
        pipe.send_bytes(encode(message))

    host = make_host()
    with contextlib.suppress(EOFError, OSError):  # the server has closed its end or exited
        serve(host, next_call, post)


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
