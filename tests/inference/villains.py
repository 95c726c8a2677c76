"""Models for worker processes that do what a job's options say: answer, stream, die, hang, grow."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from streamer.models.contract import AudioOut, Model, StreamingModel


def act(options):
    """What a misbehaving model does; returns an output where it lives to tell."""
    match options.get("act"):
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            raise SystemExit(3)
        case "vanish":
            os._exit(7)
        case "hang":
            time.sleep(1_000)
        case "words":
            return (word for word in options["words"])
        case "die_once":
            flag = Path(options["flag"])
            if not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        case "wait_for":
            while not Path(options["flag"]).exists():
                time.sleep(0.005)
    return {"pid": os.getpid()}


class Villain(Model):
    executor = "process"
    max_batch_wait_ms = 200.0

    def __init__(self, barred: str = ""):
        self._barred = barred

    def load(self):
        if self._barred and Path(self._barred).exists():
            os._exit(9)

    def infer(self, batch):
        return [act(item.options) for item in batch]


class Counter(StreamingModel):
    """Counts the pieces of each channel."""

    executor = "process"
    max_batch_wait_ms = 0.0

    def open(self, info):
        return 0

    def step(self, states, batch):
        outputs = [act(item.options) | {"pieces": state + 1} for state, item in zip(states, batch, strict=True)]
        return [(state + 1, output) for state, output in zip(states, outputs, strict=True)]


class Echo(Model):
    """Answers with its input, twice."""

    executor = "process"
    output_sample_rate = 16_000
    output_channels = 2

    def infer(self, batch):
        return [AudioOut(np.stack([item.samples, item.samples]), 16_000) for item in batch]


class Talker(Model):
    """Begins to answer with audio, and dies; a second process would say it again."""

    executor = "process"
    output_sample_rate = 16_000

    def __init__(self, flag: str):
        self._flag = Path(flag)

    def infer(self, batch):
        return [self._reply(item) for item in batch]

    def _reply(self, item):
        yield AudioOut(np.full(160, 0.25, np.float32), 16_000)
        if item.session_id and not self._flag.exists():
            self._flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
