"""The calls of a worker: one at a time, or those of an async model at the same time on one event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from streamer.errors import ErrorCode
from streamer.inference.faults import UNCAUGHT, fault_of
from streamer.inference.model_runner import Host, ModelRunner
from streamer.inference.worker_protocol import Answer, Fault, Op, WorkerCall, WorkerReply

_CANCELLED = Fault(ErrorCode.MODEL_ERROR, UNCAUGHT, "the call was cancelled", "the call was cancelled")
_OVERLAPPING = frozenset({Op.INFER, Op.HEALTH_CHECK, Op.CANCEL})

NextCall = Callable[[], WorkerCall | None]
"""Waits for the next call; None: there are no more."""
Post = Callable[[WorkerReply], None]


def serve(host: Host, next_call: NextCall, post: Post) -> None:
    """Answer calls until there are no more. Runs on the worker's own thread."""
    overlapping = _OverlappingCalls(host, next_call, post) if isinstance(host, ModelRunner) and host.overlaps else None
    call = next_call()
    while call is not None:
        if overlapping is not None and call.op in _OVERLAPPING:
            call = overlapping.run(call)
            continue
        for reply in host.run(call):
            post(reply)
        call = next_call()


class _OverlappingCalls:
    """Runs calls as tasks of one event loop. A thread waits for the next call meanwhile."""

    def __init__(self, runner: ModelRunner, next_call: NextCall, post: Post) -> None:
        self._runner = runner
        self._next_call = next_call
        self._post = post
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._is_ending = False
        """The worker ends, and running calls are not answered."""

    def run(self, call: WorkerCall) -> WorkerCall | None:
        """Run calls, beginning with this one, until there is one that runs alone; cancel the rest, and return it."""
        try:
            return self._runner.event_loop.run(self._run(call))
        except SystemExit as error:  # of a task that the model has started
            self._is_ending = True
            raise RuntimeError(f"the model ended its worker: SystemExit({error.code})") from error

    async def _run(self, first: WorkerCall) -> WorkerCall | None:
        calls: asyncio.Queue[WorkerCall | None] = asyncio.Queue()
        arguments = (asyncio.get_running_loop(), calls)
        name = f"{threading.current_thread().name}-calls"
        threading.Thread(target=self._forward, args=arguments, name=name, daemon=True).start()
        call: WorkerCall | None = first
        try:
            while call is not None and call.op in _OVERLAPPING:
                self._begin(call)
                call = await calls.get()
        finally:
            self._is_ending = self._is_ending or call is None
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return call

    def _forward(self, loop: asyncio.AbstractEventLoop, calls: asyncio.Queue[WorkerCall | None]) -> None:
        """Forward calls to the loop, up to the first one that runs alone."""
        is_last = False
        while not is_last:
            call = self._next_call()
            is_last = call is None or call.op not in _OVERLAPPING
            try:
                loop.call_soon_threadsafe(calls.put_nowait, call)
            except RuntimeError:  # the loop is closed: the model has ended its worker
                return

    def _begin(self, call: WorkerCall) -> None:
        if call.op is not Op.CANCEL:
            task = self._tasks[call.id] = asyncio.create_task(self._answer(call))
            task.add_done_callback(lambda _: self._tasks.pop(call.id))
        elif (task_of := self._tasks.get(call.id)) is not None:
            task_of.cancel()

    async def _answer(self, call: WorkerCall) -> None:
        """Answer one call. The last reply is done."""
        fault: Fault | None = None

        def post(answers: list[Answer]) -> None:
            self._post(WorkerReply(answers, done=False, id=call.id))

        try:
            await self._runner.run_async(call, post)
        except asyncio.CancelledError:
            if self._is_ending:
                return
            fault = _CANCELLED
        except (Exception, SystemExit) as error:  # noqa: BLE001 (the call's answer; the engine counts and logs it)
            fault = fault_of(error, UNCAUGHT)
        self._post(WorkerReply(fault=fault, spans_lost=self._runner.spans_lost(), id=call.id))
