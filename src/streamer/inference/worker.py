"""The model runner inside a worker: a model, the states of its streams, and the replies to calls. It never raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from streamer.inference.batching import Lane
from streamer.inference.calls import Call, Item, Op, Reply
from streamer.inference.observer import WorkerObserver
from streamer.inference.outputs import UNCAUGHT, Outputs, fault_of
from streamer.models.contract import AnyModel, Segment, StreamInfo, StreamingModel

SILENCE_S = 1.0
"""Length of the silence for warming and health checks, in seconds."""


class ModelSource(Protocol):
    """Source of a worker's model. Picklable for worker processes."""

    def load(self) -> AnyModel:
        """Build the model, without its own load()."""


class Prebuilt:
    """A source that returns an existing model first, and builds new ones later."""

    def __init__(self, source: ModelSource, model: AnyModel) -> None:
        self._source = source
        self._built = [model]

    def load(self) -> AnyModel:
        """Return a model that nothing else uses."""
        try:
            return self._built.pop()  # atomic, so that two threads cannot get the same model
        except IndexError:
            return self._source.load()


class ModelHost:
    """One model in one worker."""

    def __init__(
        self,
        source: ModelSource,
        *,
        max_output_bytes: int,
        max_partials: int,
        observe: Callable[[], WorkerObserver] = WorkerObserver,
    ) -> None:
        self._source = source
        self._observer = observe()
        self._model: AnyModel | None = None
        self._states: dict[Lane, Any] = {}
        self._outputs = Outputs(max_output_bytes, max_partials)

    def close(self) -> None:
        """Close the event loop of outputs. May be called twice."""
        self._outputs.close()

    def run(self, call: Call) -> Iterator[Reply]:
        """Yield the replies to one call; the last one is done."""
        for reply in self._replies(call):
            lost = self._observer.take_lost() if reply.done else 0
            yield msgspec.structs.replace(reply, spans_lost=lost) if lost else reply

    def _replies(self, call: Call) -> Iterator[Reply]:
        try:
            yield from self._let_go(call.closing)
            match call.op:
                case Op.LOAD:
                    self._load()
                case Op.CANARY:
                    self._try()
                case Op.UNLOAD:
                    self._unload()
                case Op.INFER:
                    items = [_segment(item) for item in call.items]
                    with self._observer.calling(call.trace, len(items)):
                        outputs = self._infer(items, [item.lane for item in call.items])
                        offsets = [] if self._counts_itself else [item.start / item.sample_rate for item in items]
                        for answers, complete in self._outputs.answers(outputs, offsets):
                            yield Reply(answers, done=complete)
                    return
            yield Reply()
        except (Exception, SystemExit) as error:  # noqa: BLE001 (the call's answer; the engine counts and logs it)
            yield Reply(fault=fault_of(error, UNCAUGHT))

    def _load(self) -> None:
        self._model = self._source.load()
        self._model.load()
        self._model.warm()
        self._try()

    def _try(self) -> None:
        """Infer silence. An error of the item is acceptable; an uncaught one is raised."""
        rate = self._loaded.sample_rate
        silence = np.zeros(int(SILENCE_S * rate), np.float32)
        silence.flags.writeable = False
        lane = ("", 0, 0)
        outputs = self._infer([Segment(silence, rate, 0, True, "", 0, {})], [lane])
        for _ in self._outputs.answers(outputs):
            pass
        self._close(lane)

    def _infer(self, batch: Sequence[Segment], lanes: Sequence[Lane]) -> list[Any]:
        model = self._loaded
        if isinstance(model, StreamingModel):
            return self._step(model, batch, lanes)
        return _checked("infer", model.infer(batch), len(batch))

    def _step(self, model: StreamingModel[Any], batch: Sequence[Segment], lanes: Sequence[Lane]) -> list[Any]:
        outputs: list[Any] = [self._open(model, item, lane) for item, lane in zip(batch, lanes, strict=True)]
        ready = [index for index, error in enumerate(outputs) if error is None]
        if not ready:
            return outputs
        pairs = model.step([self._states[lanes[index]] for index in ready], [batch[index] for index in ready])
        for index, (state, output) in zip(ready, _checked("step", pairs, len(ready)), strict=True):
            self._states[lanes[index]] = state
            outputs[index] = output
        return outputs

    def _open(self, model: StreamingModel[Any], item: Segment, lane: Lane) -> Exception | None:
        """Open the state of a lane unless it is open; return the error, which concerns this item alone."""
        if lane in self._states:
            return None
        try:
            self._states[lane] = model.open(StreamInfo(item.session_id, item.channel, item.sample_rate, item.options))
        except Exception as error:  # noqa: BLE001 (this item's answer; the engine counts and logs it)
            return error
        return None

    def _let_go(self, lanes: Sequence[Lane]) -> Iterator[Reply]:
        """Close states; yield errors, which are only logged."""
        for lane in lanes:
            try:
                self._close(lane)
            except Exception as error:  # noqa: BLE001 (sent to the engine, which logs it)
                yield Reply(done=False, fault=fault_of(error))

    def _close(self, lane: Lane) -> None:
        if lane in self._states:
            state = self._states.pop(lane)
            if isinstance(self._model, StreamingModel):
                self._model.close(state)

    def _unload(self) -> None:
        for _ in self._let_go(list(self._states)):
            pass
        if self._model is not None:
            self._model.unload()
        self.close()
        self._observer.stop()

    @property
    def _counts_itself(self) -> bool:
        """Whether the model's times count from the beginning of the stream already."""
        return isinstance(self._model, StreamingModel)

    @property
    def _loaded(self) -> AnyModel:
        if self._model is None:
            raise RuntimeError("the model is not loaded")
        return self._model


def _segment(item: Item) -> Segment:
    samples = np.frombuffer(item.samples, dtype=np.float32)
    options = msgspec.json.decode(item.options)
    return Segment(samples, item.sample_rate, item.start, item.is_final, item.session_id, item.channel, options)


def _checked(method: str, outputs: object, expected: int) -> list[Any]:
    """Return the model's outputs as a list of the expected length; a dict or a string is refused."""
    if isinstance(outputs, str | bytes | dict) or not hasattr(outputs, "__iter__"):
        raise TypeError(f"{method}() must return one output per item in a list, not {type(outputs).__name__}")
    listed = list(outputs)
    if len(listed) != expected:
        raise ValueError(f"{method}() returned {len(listed)} outputs for {expected} items")
    return listed
