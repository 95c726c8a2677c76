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
from streamer.inference.calls import Call, Item, Op, Reply, decode_call, encode
from streamer.inference.settings import EngineSettings
from streamer.inference.worker import ModelHost, ModelSource

CALLS = 5
PROBE_S = 2.0
"""Limits of the measurement: number of calls, and seconds."""


@dataclass(frozen=True, slots=True)
class Probed:
    """Measurements. `load_s`: load() and the first call. `memory_bytes`: memory added by the model.

    `cores`: CPU time per wall time of a call. `gil_free`: share of a core left to other Python threads during a call,
    relative to an idle process.
    """

    load_s: float
    memory_bytes: int
    cores: float
    gil_free: float


def probe(source: ModelSource, item: Item, timeout_s: float) -> Probed:
    """Load the model in a separate process and measure it. Raises ModelLoadError if it cannot be loaded.

    `item`: input of the calls. The process is killed after `timeout_s`.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_probe, args=(theirs, source, encode(Call(Op.INFER, [item]))), daemon=True)
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
    assert isinstance(found, Probed)
    return found


def _probe(pipe: Connection, source: ModelSource, encoded: bytes) -> None:
    """Measure in the child; send a Probed, or an error text."""
    call = decode_call(encoded)
    process = psutil.Process()
    before = process.memory_info().rss
    settings = EngineSettings()
    host = ModelHost(source, max_output_bytes=settings.max_output_bytes, max_partials=settings.max_partials)
    began = time.perf_counter()
    fault = _last(host, Call(Op.LOAD)).fault
    if fault is not None:
        pipe.send(fault.line or fault.message)
        return
    load_s = time.perf_counter() - began
    share_alone = _share_of(lambda: time.sleep(0.2))
    cpu, wall = time.process_time(), time.perf_counter()
    share = _share_of(lambda: _calls(host, call))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    memory = max(0, process.memory_info().rss - before)
    cores = max(0.0, cpu / wall - share)
    pipe.send(Probed(load_s, memory, cores, min(1.0, share / share_alone) if share_alone else 1.0))


def _calls(host: ModelHost, call: Call) -> None:
    until = time.perf_counter() + PROBE_S
    for _ in range(CALLS):
        _last(host, call)
        if time.perf_counter() > until:
            break


def _last(host: ModelHost, call: Call) -> Reply:
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
