"""The model runner inside a worker: a model, the states of its streams, and the replies to calls. It never raises."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from streamer.errors import brief
from streamer.inference.audio_check import AudioCheck
from streamer.inference.faults import UNCAUGHT, fault_of
from streamer.inference.observer import WorkerObserver
from streamer.inference.outputs import Outputs
from streamer.inference.scheduler import StreamKey
from streamer.inference.worker_protocol import Answer, Fault, InferenceItem, Op, WorkerCall, WorkerReply
from streamer.models.author_errors import ContractBroken, place_of
from streamer.models.contract import AnyModel, AudioSegment, FunctionModel, StreamInfo, StreamingModel

SILENCE_S = 1.0
"""Length of the silence for warming and health checks, in seconds."""


class ModelSource(Protocol):
    """Source of a worker's model. Picklable for worker processes."""

    def load(self) -> AnyModel:
        """Build the model, without its own load()."""


class PreloadedSource:
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


class Host(Protocol):
    """Answers the calls of a worker: with a model, or as a bridge to one elsewhere."""

    def run(self, call: WorkerCall) -> Iterator[WorkerReply]:
        """Yield the replies to one call; the last one is done."""
        ...


class ModelRunner:
    """One model in one worker."""

    def __init__(
        self,
        source: ModelSource,
        *,
        max_output_bytes: int,
        max_partials: int,
        observe: Callable[[], WorkerObserver] = WorkerObserver,
        overlaps: bool = False,
    ) -> None:
        """Prepare the runner. `overlaps`: calls of the model run at the same time, on the worker's event loop."""
        self.overlaps = overlaps
        self._source = source
        self._observer = observe()
        self._model: AnyModel | None = None
        self._states: dict[StreamKey, Any] = {}
        self._outputs = Outputs(max_output_bytes, max_partials)
        self._step_of_load = ""

    def close(self) -> None:
        """Close the event loop of outputs. May be called twice."""
        self._outputs.close()

    def run(self, call: WorkerCall) -> Iterator[WorkerReply]:
        """Yield the replies to one call; the last one is done."""
        for reply in self._replies(call):
            spans_dropped = self.spans_lost() if reply.done else 0
            yield msgspec.structs.replace(reply, spans_lost=spans_dropped) if spans_dropped else reply

    @property
    def event_loop(self) -> asyncio.Runner:
        """The event loop of the model's coroutines."""
        return self._outputs.runner

    async def run_async(self, call: WorkerCall, post: Callable[[list[Answer]], None]) -> None:
        """Run an inference or a health check on the event loop, at the same time as others; post its answers.

        Raises what the model raises, and CancelledError if it is cancelled.
        """
        model = self._loaded_model
        assert not isinstance(model, StreamingModel)
        is_check = call.op is Op.HEALTH_CHECK
        items = [_silence(model.sample_rate)] if is_check else [_segment(item) for item in call.items]
        with self._observer.trace_call(call.trace, len(items)):
            outputs = model.infer(items)
            if inspect.isawaitable(outputs):
                outputs = await outputs
            listed = _outputs_of(model.infer, outputs, len(items))
            offsets = [item.start / item.sample_rate for item in call.items]
            await self._outputs.beside(offsets).answer_all(listed, _ignore if is_check else post)

    def spans_lost(self) -> int:
        """Return the number of spans lost since the last reply that is done."""
        return self._observer.dropped_since_last()

    def _replies(self, call: WorkerCall) -> Iterator[WorkerReply]:
        try:
            yield from self._close_states(call.closing_keys)
            match call.op:
                case Op.LOAD:
                    self._load()
                    yield WorkerReply(done=False)
                    if (fault := self._first_call()) is not None:
                        yield WorkerReply(fault=self._named(fault))
                        return
                case Op.HEALTH_CHECK:
                    self._check_health()
                case Op.UNLOAD:
                    self._unload()
                case Op.INFER:
                    items = [_segment(item) for item in call.items]
                    with self._observer.trace_call(call.trace, len(items)):
                        outputs = self._infer(items, [item.stream_key for item in call.items])
                        offsets = [] if self._counts_itself else [item.start / item.sample_rate for item in items]
                        for answers, complete in self._outputs.answers(outputs, offsets):
                            yield WorkerReply(answers, done=complete)
                    return
            yield WorkerReply()
        except (Exception, SystemExit) as error:  # noqa: BLE001 (the call's answer; the engine counts and logs it)
            fault = fault_of(error, UNCAUGHT)
            yield WorkerReply(fault=self._named(fault) if call.op is Op.LOAD else fault)

    def _named(self, fault: Fault) -> Fault:
        """Return an error of the load with the step that failed. No client reads it."""
        return msgspec.structs.replace(fault, line=f"{self._step_of_load}: {fault.line}")

    def _load(self) -> None:
        self._step_of_load = "building the model failed"
        self._model = model = self._source.load()
        self._outputs.audio = AudioCheck(model.output_sample_rate, model.output_channels)
        self._step_of_load = "loading the model failed"
        self._model.load()
        self._step_of_load = "warming the model up failed"
        self._model.warm()

    def _first_call(self) -> Fault | None:
        """Let the model answer silence; return an error that it did not intend."""
        self._step_of_load = f"the model failed on its first call, {SILENCE_S:g} s of silence"
        fault = next((fault for fault in self._check_health() if not fault.intended), None)
        if fault is None:
            return None
        hint = (
            "; for audio that it cannot answer, a model raises streamer.ModelFailed"
            if ", line " in fault.line
            else f"; change {place_of(_answering_function(self._loaded_model))}"
        )
        return msgspec.structs.replace(fault, line=fault.line + hint)

    def _check_health(self) -> list[Fault]:
        """Infer silence; return the error of the item, if any. An uncaught error is raised."""
        stream_key = ("", 0, 0)
        outputs = self._infer([_silence(self._loaded_model.sample_rate)], [stream_key])
        replies = [answer for answers, _ in self._outputs.answers(outputs) for answer in answers]
        self._close(stream_key)
        return [answer.fault for answer in replies if answer.fault is not None]

    def _infer(self, batch: Sequence[AudioSegment], stream_keys: Sequence[StreamKey]) -> list[Any]:
        model = self._loaded_model
        if isinstance(model, StreamingModel):
            return self._step(model, batch, stream_keys)
        outputs = model.infer(batch)
        if inspect.isawaitable(outputs):
            outputs = self._outputs.wait_for(outputs)
        return _outputs_of(model.infer, outputs, len(batch))

    def _step(
        self, model: StreamingModel[Any], batch: Sequence[AudioSegment], stream_keys: Sequence[StreamKey]
    ) -> list[Any]:
        outputs: list[Any] = [
            self._open(model, item, stream_key) for item, stream_key in zip(batch, stream_keys, strict=True)
        ]
        ready = [index for index, error in enumerate(outputs) if error is None]
        if not ready:
            return outputs
        pairs = model.step([self._states[stream_keys[index]] for index in ready], [batch[index] for index in ready])
        for index, (state, output) in zip(ready, _pairs_of(model.step, pairs, len(ready)), strict=True):
            self._states[stream_keys[index]] = state
            outputs[index] = output
        return outputs

    def _open(self, model: StreamingModel[Any], item: AudioSegment, stream_key: StreamKey) -> Exception | None:
        """Open the state of a stream unless it is open; return the error, which concerns this item alone."""
        if stream_key in self._states:
            return None
        try:
            self._states[stream_key] = model.open(
                StreamInfo(item.session_id, item.channel, item.sample_rate, item.options)
            )
        except Exception as error:  # noqa: BLE001 (this item's answer; the engine counts and logs it)
            return error
        return None

    def _close_states(self, stream_keys: Sequence[StreamKey]) -> Iterator[WorkerReply]:
        """Close states; yield errors, which are only logged."""
        for stream_key in stream_keys:
            try:
                self._close(stream_key)
            except Exception as error:  # noqa: BLE001 (sent to the engine, which logs it)
                yield WorkerReply(done=False, fault=fault_of(error))

    def _close(self, stream_key: StreamKey) -> None:
        if stream_key in self._states:
            state = self._states.pop(stream_key)
            if isinstance(self._model, StreamingModel):
                self._model.close(state)

    def _unload(self) -> None:
        for _ in self._close_states(list(self._states)):
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
    def _loaded_model(self) -> AnyModel:
        if self._model is None:
            raise RuntimeError("the model is not loaded")
        return self._model


def _ignore(_: list[Answer]) -> None:
    """Drop the answers to a health check."""


def _silence(sample_rate: int) -> AudioSegment:
    silence = np.zeros(int(SILENCE_S * sample_rate), np.float32)
    silence.flags.writeable = False
    return AudioSegment(silence, sample_rate, 0, True, "", 0, {})


def _segment(item: InferenceItem) -> AudioSegment:
    samples = np.frombuffer(item.samples, dtype=np.float32)
    options = msgspec.json.decode(item.options)
    return AudioSegment(
        samples, item.sample_rate, item.start, item.is_final, item.session_id, item.channel, options, item.overlap
    )


def _answering_function(model: AnyModel) -> Callable[..., object]:
    """Return the function of the author that makes the outputs."""
    if isinstance(model, FunctionModel):
        return model.function
    return model.step if isinstance(model, StreamingModel) else model.infer


def _outputs_of(method: Callable[..., object], returned: object, expected: int) -> list[Any]:
    """Return what a method of the model returned as a list of `expected` entries. Raises ContractBroken."""
    rule = f"one output per item, a list of {expected} here"
    if isinstance(returned, str | bytes | dict) or not hasattr(returned, "__iter__"):
        raise _broken(method, rule, returned)
    listed = list(returned)
    if len(listed) != expected:
        raise _broken(method, rule, listed, f"{len(listed)} outputs for {expected} items: ")
    return listed


def _pairs_of(method: Callable[..., object], returned: object, expected: int) -> list[Any]:
    """Return what `step` returned as a list of `expected` pairs. Raises ContractBroken."""
    listed = _outputs_of(method, returned, expected)
    for entry in listed:
        if not isinstance(entry, tuple | list) or len(entry) != 2:
            raise _broken(method, "a pair (state, output) per item", entry)
    return listed


def _broken(method: Callable[..., object], expected: str, got: object, more: str = "") -> ContractBroken:
    name = getattr(method, "__name__", "the model")
    return ContractBroken(f"{name}() must return {expected}; got {more}{brief(got)}; change {place_of(method)}")
