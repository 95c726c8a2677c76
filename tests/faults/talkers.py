"""Models that answer with audio, rightly and wrongly."""

import threading
import time

import numpy as np

from streamer.models.contract import AudioOut, Model

RATE = 16_000


class Talker(Model):
    """Says the same to everything, piece by piece."""

    output_sample_rate = RATE

    def __init__(self, seconds: float = 1.0):
        self._seconds = seconds

    def infer(self, batch):
        return [self._reply() for _ in batch]

    def _reply(self):
        yield {"said": "hello"}
        left = round(self._seconds * RATE)
        while left > 0:
            n = min(left, 4_000)
            left -= n
            yield AudioOut(np.full(n, 0.25, np.float32), RATE)


class Wrong(Model):
    """Answers one piece of a stream as its options say."""

    output_sample_rate = RATE

    workers = 2

    def infer(self, batch):
        return [self._one(item) for item in batch]

    def _one(self, item):
        x = item.samples
        if item.start != item.options.get("at"):
            return AudioOut(x, RATE)
        match item.options["act"]:
            case "many":
                return AudioOut(np.append(x, np.float32(0)), RATE)
            case "few":
                return AudioOut(x[1:], RATE)
            case "none":
                return {"text": "no audio"}
            case "nan":
                return AudioOut(x * np.float32(np.nan), RATE)
            case "rate":
                return AudioOut(x, 8_000)
            case "channels":
                return AudioOut(np.tile(x, (100, 1)), RATE)
            case "late":
                time.sleep(0.3)
                return AudioOut(x, RATE)
            case "never":
                threading.Event().wait(20.0)
                return AudioOut(x, RATE)
