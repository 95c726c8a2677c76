"""A model that does what a stream's options say: `streamer serve tests/faults/villain.py:Villain`."""

import os
import time
from pathlib import Path

from streamer.models.contract import Model


class Villain(Model):
    """`act`: raise, hang, die, grow; `wait_for`: a file; `say_who`: a file for its process id.

    `barred`: where this file is, no worker can be loaded.
    """

    executor = "process"
    workers = 2
    max_batch_wait_ms = 0.0
    timeout_floor_s = 4.0
    # On a busy machine a worker takes seconds for the memory it hoards.
    timeout_factor = 0.0

    def __init__(self, barred: str = ""):
        self._barred = barred

    def load(self):
        if self._barred and Path(self._barred).exists():
            raise RuntimeError("no room for the weights")

    def infer(self, batch):
        return [self._answer(item) for item in batch]

    def _answer(self, item):
        match item.options.get("act"):
            case "raise":
                raise RuntimeError(f"the model's own secret: {item.options.get('secret')}")
            case "hang":
                time.sleep(1_000)
            case "die":
                os._exit(7)
            case "grow":
                self._hoard = b"x" * (150 * 2**20)
        if who := item.options.get("say_who"):
            Path(who).write_text(str(os.getpid()))
        flag = item.options.get("wait_for")
        while flag and not Path(flag).exists():
            time.sleep(0.005)
        return {"count": len(item.samples)}
