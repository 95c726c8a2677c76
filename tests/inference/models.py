"""Models that wait at a gate, or do with each item what a test says."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import defaultdict
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


class Following(Model):
    """Async: a call waits until the call of the next number has begun, up to the last."""

    timeout_floor_s = 30.0
    last = 1

    def __init__(self, **settings):
        self.begun = defaultdict(asyncio.Event)
        for key, value in settings.items():
            setattr(self, key, value)

    async def infer(self, batch):
        return [await self._follow(item) for item in batch]

    async def _follow(self, item):
        number = int(item.samples[0])
        if item.session_id:
            self.begun[number].set()
            if number < self.last:
                await self.begun[number + 1].wait()
        return number


class Crashing(Model):
    """Async: a negative number ends the process. Any other one waits forever at the first time."""

    def __init__(self, directory: Path):
        self.directory = directory

    async def infer(self, batch):
        for item in batch:
            number = int(item.samples[0])
            if item.session_id and number < 0:
                os._exit(7)
            seen = self.directory / str(number)
            if item.session_id and not seen.exists():
                seen.touch()
                await asyncio.Event().wait()
        return [item.samples[0] for item in batch]


class Waiting(Model):
    """Async: each item waits until the test lets it go, by its number. A negative number blocks the event loop."""

    timeout_floor_s = 30.0
    timeout_factor = 0.0

    def __init__(self, **settings):
        self.begun = threading.Semaphore(0)
        self.unblock = threading.Event()
        self.cancelled = []
        self.running = self.most = 0
        self._loops = {}
        for key, value in settings.items():
            setattr(self, key, value)

    async def infer(self, batch):
        return [self._wait(item) for item in batch]

    async def _wait(self, item):
        if not item.session_id:
            return None
        number = int(item.samples[0])
        gone = asyncio.Event()
        self._loops[number] = (asyncio.get_running_loop(), gone)
        self.running += 1
        self.most = max(self.most, self.running)
        self.begun.release()
        try:
            if number < 0:
                self.unblock.wait(20)
            await gone.wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            self.running -= 1
        return number

    async def have_begun(self, count):
        """Wait until this many more items have begun."""
        for _ in range(count):
            assert await asyncio.to_thread(self.begun.acquire, timeout=20)

    def let_go(self, *numbers):
        for number in numbers:
            loop, gone = self._loops[number]
            loop.call_soon_threadsafe(gone.set)
