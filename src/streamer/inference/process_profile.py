"""Measures a model inside a process: memory, cores in use, and whether it releases the GIL."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import psutil

from streamer.errors import ModelLoadError
from streamer.inference.model_runner import ModelRunner, ModelSource
from streamer.inference.settings import EngineSettings
from streamer.inference.worker_protocol import InferenceItem, Op, WorkerCall, WorkerReply, decode_call, encode

CALLS = 5
PROFILE_S = 2.0
"""Limits of the measurement: number of calls, and seconds."""


@dataclass(frozen=True, slots=True)
class ProcessProfile:
    """Measurements. `load_s`: load() and the first call. `memory_bytes`: memory added by the model.

    `cores`: CPU time per wall time of a call. `gil_free`: share of a core left to other Python threads during a call,
    relative to an idle process.
    """

    load_s: float
    memory_bytes: int
    cores: float
    gil_free: float


def profile_in_process(source: ModelSource, item: InferenceItem, timeout_s: float) -> ProcessProfile:
    """Load the model in a separate process and measure it. Raises ModelLoadError if it cannot be loaded.

    `item`: input of the calls. The process is killed after `timeout_s`.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_profile_in_child, args=(theirs, source, encode(WorkerCall(Op.INFER, [item]))), daemon=True
    )
    process.start()
    theirs.close()
    try:
        if not ours.poll(timeout_s):
            raise ModelLoadError(f"the model did not answer within {timeout_s:g} s")
        found = ours.recv()
    except EOFError:
        process.join()
        raise ModelLoadError(f"the model ended its process (exit code {process.exitcode})") from None
    finally:
        process.kill()
        process.join()
        ours.close()
    if isinstance(found, str):
        raise ModelLoadError(found)
    assert isinstance(found, ProcessProfile)
    return found


def _profile_in_child(pipe: Connection, source: ModelSource, encoded: bytes) -> None:
    """Measure in the child; send a Probed, or an error text."""
    call = decode_call(encoded)
    process = psutil.Process()
    before = process.memory_info().rss
    settings = EngineSettings()
    host = ModelRunner(source, max_output_bytes=settings.max_output_bytes, max_partials=settings.max_partials)
    started_at = time.perf_counter()
    fault = _final_reply(host, WorkerCall(Op.LOAD)).fault
    if fault is not None:
        pipe.send(fault.line or fault.message)
        return
    load_s = time.perf_counter() - started_at
    share_alone = _share_of(lambda: time.sleep(0.2))
    cpu, wall = time.process_time(), time.perf_counter()
    share = _share_of(lambda: _calls(host, call))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    memory = max(0, process.memory_info().rss - before)
    cores = max(0.0, cpu / wall - share)
    pipe.send(ProcessProfile(load_s, memory, cores, min(1.0, share / share_alone) if share_alone else 1.0))


def _calls(host: ModelRunner, call: WorkerCall) -> None:
    until = time.perf_counter() + PROFILE_S
    for _ in range(CALLS):
        _final_reply(host, call)
        if time.perf_counter() > until:
            break


def _final_reply(host: ModelRunner, call: WorkerCall) -> WorkerReply:
    *_, reply = host.run(call)
    return reply


def _share_of(work: Callable[[], object]) -> float:
    """Return the share of wall time in which a pure Python thread could run during `work`."""
    done = threading.Event()
    share = 0.0

    def spin() -> None:
        nonlocal share
        wall, cpu = time.perf_counter(), time.thread_time()
        while not done.is_set():
            pass
        share = (time.thread_time() - cpu) / (time.perf_counter() - wall)

    spinner = threading.Thread(target=spin)
    spinner.start()
    work()
    done.set()
    spinner.join()
    return share
