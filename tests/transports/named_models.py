"""Models for servers with several: by name, a test can hold them up, or have them fail, die or not load."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from weakref import WeakSet

from streamer.errors import BadRequest
from streamer.models.contract import Model
from streamer.protocols.opening import Opening

GATES: dict[str, threading.Event] = {}
"""A model whose name is here waits in each call for the gate to open."""
LOADS: Counter[str] = Counter()
BROKEN: set[str] = set()
"""Models that cannot be loaded."""
ALIVE: WeakSet[Named] = WeakSet()


class Named(Model):
    """Answers with its name."""

    timeout_floor_s = 60.0

    def __init__(self, name: str, sample_rate: int = 16_000):
        self.name = name
        self.sample_rate = sample_rate

    def load(self):
        LOADS[self.name] += 1
        ALIVE.add(self)
        if self.name in BROKEN:
            raise RuntimeError(f"no weights for {self.name}")

    def infer(self, batch):
        if batch[0].session_id and self.name in GATES:
            assert GATES[self.name].wait(60)
        return [{"by": self.name} for _ in batch]


INSTANCE = Named("instance")


class Mortal(Model):
    """Answers with its process, or fails, hangs or dies; it cannot be loaded while the file `barred` is there."""

    executor = "process"

    def __init__(self, name: str, barred: str):
        self.name = name
        self._barred = Path(barred)

    def load(self):
        if self._barred.exists():
            raise RuntimeError("barred")

    def infer(self, batch):
        if any(item.options.get("die") for item in batch):
            self._barred.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if any(item.options.get("hang") for item in batch):
            time.sleep(1_000)
        if any(item.options.get("fail") for item in batch):
            raise RuntimeError("a failure of the model")
        return [{"by": self.name, "pid": os.getpid()} for _ in batch]


def by_language(opening: Opening) -> str | None:
    """A router: by a parameter of the request, or by metadata."""
    match dict(opening.query).get("language", opening.headers.get("language")):
        case "en":
            return "english"
        case "tlh":
            return "klingon"
        case "wrong":
            return 7  # type: ignore[return-value]
        case "broken":
            raise RuntimeError("the router is broken")
        case "refused":
            raise BadRequest("language: expected one that is spoken")
        case _:
            return None
