"""Models that wait at a gate, or do with each item what a test says."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

from streamer.models.contract import Model


class GatedModel(Model):
    """Waits at a gate in each call that is not the engine's own."""

    timeout_floor_s = 30.0

    def __init__(self, **settings):
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.calls = []
        for key, value in settings.items():
            setattr(self, key, value)

    def infer(self, batch):
        if batch[0].session_id:
            self.calls.append([(item.session_id, item.start) for item in batch])
            self.entered.release()
            assert self.gate.wait(20)
        return [{"n": len(item.samples)} for item in batch]


class Scripted(Model):
    """Does with each item what the first sample says."""

    max_batch_size = 8

    def __init__(self, acts, **settings):
        self.acts = acts
        for key, value in settings.items():
            setattr(self, key, value)

    def infer(self, batch):
        return [self.acts[int(item.samples[0])](item) for item in batch]


async def entered(model):
    await asyncio.to_thread(model.entered.acquire, timeout=20)


class CountingModel(Model):
    """Appends the id of its process to a file whenever one is built."""

    def __init__(self, log: Path):
        with log.open("a") as lines:
            lines.write(f"{os.getpid()}\n")

    def infer(self, batch):
        return [os.getpid() for _ in batch]


class Meeting(Model):
    """Async: the four calls of a batch wait for each other."""

    max_batch_size = 4
    max_batch_wait_ms = 1000.0

    def load(self):
        self.barrier = asyncio.Barrier(4)

    def infer(self, batch):
        return [self._meet(item) for item in batch]

    async def _meet(self, item):
        if item.session_id:
            await self.barrier.wait()
        return {"value": float(item.samples[0])}
