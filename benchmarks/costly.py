"""A model whose costs are known: 20 ms a call and 1 ms an item, asleep, as a network on another device would be."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from streamer.models.contract import AudioSegment, Model

CALL_S = 0.020
ITEM_S = 0.001


class Costly(Model):
    """Answers with its process's id. With options `{"hang": true}` it does not answer."""

    max_batch_wait_ms = 5.0

    def infer(self, batch: Sequence[AudioSegment]) -> Sequence[Any]:
        if any(item.options.get("hang") for item in batch):
            time.sleep(1_000)
        time.sleep(CALL_S + ITEM_S * len(batch))
        return [os.getpid() for _ in batch]
