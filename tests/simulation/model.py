"""A model that answers, fails, crashes and hangs by the dice, in a worker that needs no thread."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from streamer.errors import ErrorCode
from streamer.inference.worker_protocol import NO_AUDIO, Answer, Fault, InferenceItem, Op, WorkerCall, WorkerReply
from streamer.inference.workers import WorkerOwner
from streamer.models.contract import AudioSegment, Model


@dataclass(frozen=True, slots=True)
class Temper:
    """How a model behaves: seconds and probabilities per call (`error`: per item)."""

    per_call_s: float = 0.01
    per_item_s: float = 0.002
    jitter: float = 0.5
    error: float = 0.0
    crash: float = 0.0
    hang: float = 0.0
    partial: float = 0.0
    audio: float = 0.0
    """Probability that an answer has audio: on `simple` without it the answer is wrong."""


class Counting(Model):
    """What the engine reads its numbers from; it never runs."""

    name = "counting"
    timeout_floor_s = 2.0
    timeout_factor = 1.0

    def infer(self, batch: Sequence[AudioSegment]) -> Sequence[object]:
        raise AssertionError("the simulated worker answers")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the engine finds the model; settings as attributes of it."""

    max_batch_size: int
    workers: int
    max_concurrent: int

    def load(self) -> Counting:
        model = Counting()
        model.max_batch_size = self.max_batch_size
        model.workers = self.workers
        model.max_concurrent = self.max_concurrent
        return model


class SimulatedWorker:
    """Does what an `inference.executor.Worker` promises its slot, on the loop's own time."""

    def __init__(self, name: str, owner: WorkerOwner, temper: Temper, rng: random.Random, faults: list[str]) -> None:
        self.name = name
        self._owner = owner
        self._temper = temper
        self._rng = rng
        self._faults = faults
        self._loop = asyncio.get_running_loop()
        self._answers: list[asyncio.TimerHandle] = []
        self._hung: set[int] = set()
        self._gone = False

    def start(self) -> None:
        pass

    def call(self, call: WorkerCall) -> None:
        temper, rng = self._temper, self._rng
        if call.op is Op.CANCEL:
            if call.id in self._hung and rng.random() < 0.7:  # otherwise it blocks
                self._later(0.01, WorkerReply(fault=Fault(ErrorCode.MODEL_ERROR, "cancelled"), id=call.id))
            return
        if call.op is not Op.INFER:
            self._later(0.001, WorkerReply(id=call.id))
            if call.op is Op.UNLOAD:
                self._loop.call_later(0.002, self._leave, "unloaded")
            return
        took = (temper.per_call_s + temper.per_item_s * len(call.items)) * rng.uniform(1 - temper.jitter, 1)
        dice = rng.random()
        if dice < temper.crash:
            self._faults.append("crash")
            self._loop.call_later(took, self._leave, "was killed by signal 9")
        elif dice < temper.crash + temper.hang:
            self._faults.append("hang")
            self._hung.add(call.id)
        else:
            spoken = [self._spoken(item) for item in call.items]
            if rng.random() < temper.partial and temper.audio:
                parts = [Answer(index, b"", partial=True, audio=part) for index, (part, _) in enumerate(spoken)]
                self._loop.call_later(took / 2, self._post, WorkerReply(parts, done=False, id=call.id))
                spoken = [(None, rest) for _, rest in spoken]
            elif rng.random() < temper.partial:
                parts = [Answer(index, b'"part"', partial=True) for index in range(len(call.items))]
                self._loop.call_later(took / 2, self._post, WorkerReply(parts, done=False, id=call.id))
            self._later(
                took,
                WorkerReply(
                    [self._item(index, item.samples, *spoken[index]) for index, item in enumerate(call.items)],
                    id=call.id,
                ),
            )

    def stop(self) -> None:
        self._loop.call_later(0.001, self._leave, "stopped")

    def kill(self) -> None:
        for answer in self._answers:
            answer.cancel()
        self._loop.call_later(0.1, self._leave, "was killed")

    def _spoken(self, item: InferenceItem) -> tuple[memoryview | None, memoryview]:
        """The audio of an answer in two parts: its input again, or nothing."""
        if self._rng.random() >= self._temper.audio:
            return NO_AUDIO, NO_AUDIO
        cut = self._rng.randrange(len(item.samples) // 4 + 1) * 4
        return item.samples[:cut], item.samples[cut:]

    def _item(self, index: int, samples: memoryview, part: memoryview | None, rest: memoryview) -> Answer:
        if self._rng.random() < self._temper.error:
            self._faults.append("error")
            return Answer(index, fault=Fault(ErrorCode.MODEL_ERROR, "the model failed on this segment", "by the dice"))
        audio = rest if part is None else memoryview(bytes(part) + bytes(rest))
        return Answer(index, msgspec.json.encode({"count": len(samples) // 4}), audio=audio)

    def _later(self, delay: float, reply: WorkerReply) -> None:
        self._answers = [each for each in self._answers if each.when() > self._loop.time()]
        self._answers.append(self._loop.call_later(delay, self._post, reply))

    def _post(self, reply: WorkerReply) -> None:
        if not self._gone:
            self._owner.on_reply(self, reply)  # type: ignore[arg-type]

    def _leave(self, cause: str) -> None:
        if not self._gone:
            self._gone = True
            self._owner.on_exit(self, cause)  # type: ignore[arg-type]
