"""A model with a price, so many milliseconds a call and an item, that hangs where a client asks it to."""

from __future__ import annotations

import time
from collections.abc import Sequence

import streamer


class TimedModel(streamer.Model):
    """20 ms a call and 1 ms an item, as a small network on an accelerator has it."""

    max_batch_size = 16
    timeout_floor_s = 1.0
    timeout_factor = 1.0
    per_call_s = 0.02
    per_item_s = 0.001

    def infer(self, batch: Sequence[streamer.AudioSegment]) -> Sequence[object]:
        if any(item.options.get("hang") for item in batch):
            time.sleep(3_600)
        time.sleep(self.per_call_s + self.per_item_s * len(batch))
        return [{"count": len(item.samples)} for item in batch]


class ByProcess(TimedModel):
    """The same in two worker processes."""

    executor = "process"
    workers = 2
