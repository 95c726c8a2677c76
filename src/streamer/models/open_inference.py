"""A model on a Triton, KServe or another server of the Open Inference Protocol: `pip install streamer-audio[grpc]`."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from streamer.errors import ConfigError, ErrorCode, StreamerError
from streamer.models.contract import AudioSegment, BaseModel, Model, StreamInfo, StreamingModel
from streamer.models.weight_files import missing_package

log = logging.getLogger(__name__)

MARGIN = 0.9
"""Part of the time of a call that the server gets, so that it answers before the engine gives up."""
MIN_IDLE_S = 60.0
"""Idle time of a sequence below which a warning is logged: the server forgets the state of a speaker who pauses."""
_END_S = 5.0
"""Time in seconds for the end of a sequence."""


class _RemoteModel(BaseModel):
    """A model that runs on another server: its address, its connection, and the time of a call."""

    def _set_address(
        self,
        url: str,
        model: str,
        version: str,
        input: str,
        lengths: str,
        outputs: Sequence[str],
        headers: Mapping[str, str] | None,
        tls: bool,
        queue_timeout_ms: int,
    ) -> None:
        """Set the address, and name the model as the server does."""
        self.name = model
        self._options = {
            "url": url, "model": model, "version": version, "input": input, "lengths": lengths,
            "outputs": tuple(outputs), "headers": tuple((headers or {}).items()), "tls": tls,
            "queue_timeout_ms": queue_timeout_ms,
        }  # fmt: skip
        self._client: Any = None

    def unload(self) -> None:
        if self._client is not None:
            self._client.close()

    def _timeout_s(self, batch: Sequence[AudioSegment]) -> float:
        """Return the time in seconds that the server gets for a batch."""
        seconds = sum(len(item.samples) / item.sample_rate for item in batch)
        return MARGIN * (self.timeout_floor_s + self.timeout_factor * seconds)


class OpenInference(_RemoteModel, Model):
    """Returns the model's output, or `{name: output}` if it has several.

    `url`: host:port. `model`, `version`: the server's names. `input`: name of the input of samples, FP32 [n] or
    [batch, n]; empty: the only one. `lengths`: name of an integer input with the length of each item; empty: there is
    no such input. `outputs`: names; empty: all. `batching`: `theirs` sends each item in a request of its own, and the
    server joins them; `ours` sends a batch in one request, padded with zeros, and needs `lengths`. `headers`: sent with
    each request. `queue_timeout_ms`: longest time in the server's queue; 0: the time of the call.

    `workers` is the number of connections, each with one call at a time. The engine cannot stop what runs elsewhere: a
    call that takes too long ends by its deadline, and the server goes on with it.
    """

    name = "open_inference"
    max_batch_size = 16
    workers = 2

    def __init__(
        self,
        url: str,
        model: str,
        version: str = "",
        input: str = "",
        lengths: str = "",
        outputs: tuple[str, ...] = (),
        batching: Literal["theirs", "ours"] = "theirs",
        headers: Mapping[str, str] | None = None,
        tls: bool = False,
        queue_timeout_ms: int = 0,
    ) -> None:
        if batching == "ours" and not lengths:
            raise ConfigError(field="model.lengths", expected="the name of an input, as batching is ours", got=lengths)
        self._set_address(url, model, version, input, lengths, outputs, headers, tls, queue_timeout_ms)
        self._is_ours = batching == "ours"

    def load(self) -> None:
        self._client = _connect(self._options)
        if self._is_ours and not self._client.is_batched:
            raise ConfigError(
                field="model.batching", expected="theirs, as the input has no batch dimension", got="ours"
            )

    def infer(self, batch: Sequence[AudioSegment]) -> Sequence[Any]:
        timeout_s = self._timeout_s(batch)
        groups = [list(batch)] if self._is_ours else [[item] for item in batch]
        return [output for group in _answers(self._client, groups, [{}] * len(groups), timeout_s) for output in group]


@dataclass
class RemoteState:
    """State of a channel: the id of a sequence on the server. It is random, because other servers have some there."""

    id: int
    is_started: bool = False

    @classmethod
    def new(cls) -> RemoteState:
        return cls(secrets.randbits(63) or 1)


class OpenInferenceStreaming(_RemoteModel, StreamingModel[RemoteState]):
    """The same for a model with sequences, whose state stays on the server.

    The state of a channel is lost if its connection breaks, or if it is idle for longer than the server's
    `max_sequence_idle_microseconds` (by default one second). Then the piece fails, and the next one begins anew.
    Parameters: see `OpenInference`; batches are joined by the server.
    """

    name = "open_inference_streaming"
    max_batch_size = 64
    max_batch_wait_ms = 0.0
    workers = 2

    def __init__(
        self,
        url: str,
        model: str,
        version: str = "",
        input: str = "",
        lengths: str = "",
        outputs: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None,
        tls: bool = False,
        queue_timeout_ms: int = 0,
    ) -> None:
        self._set_address(url, model, version, input, lengths, outputs, headers, tls, queue_timeout_ms)

    def load(self) -> None:
        self._client = _connect(self._options)
        idle_s = self._client.idle_s()
        if idle_s is not None and idle_s < MIN_IDLE_S:
            log.warning(
                "model %s forgets a sequence that is idle for %g s: raise max_sequence_idle_microseconds in its config "
                "above the longest pause of a speaker",
                self.name,
                idle_s,
            )

    def open(self, info: StreamInfo) -> RemoteState:
        return RemoteState.new()

    def step(self, states: Sequence[RemoteState], batch: Sequence[AudioSegment]) -> Sequence[tuple[RemoteState, Any]]:
        timeout_s = self._timeout_s(batch)
        parameters: list[Mapping[str, object]] = [
            {"sequence_id": state.id, "sequence_start": not state.is_started, "sequence_end": False} for state in states
        ]
        answers = _answers(self._client, [[item] for item in batch], parameters, timeout_s)
        return [self._after(state, answer) for state, [answer] in zip(states, answers, strict=True)]

    def close(self, state: RemoteState) -> None:
        """End the sequence with a request of one sample, whose output is ignored."""
        if state.is_started and self._client is not None:
            ending = {"sequence_id": state.id, "sequence_start": False, "sequence_end": True}
            silence = np.zeros(1, np.float32)
            self._client.result(self._client.start([silence], _END_S, ending, {}), 1)

    def _after(self, state: RemoteState, answer: Any) -> tuple[RemoteState, Any]:
        if not isinstance(answer, Exception):
            state.is_started = True
            return state, answer
        if not state.is_started:  # nothing is lost
            return RemoteState.new(), answer
        log.warning("model %s: the state of a sequence was lost: %s", self.name, answer)
        words = "the model's state for this stream was lost on the inference server, processing begins anew"
        return RemoteState.new(), StreamerError(words, code=ErrorCode.MODEL_CRASHED)


def _connect(options: Mapping[str, Any]) -> Any:
    try:
        from streamer.models.open_inference_client import Client, ModelAddress  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise missing_package("grpcio", "grpc") from error
    return Client(ModelAddress(**options))


def _answers(
    client: Any, groups: Sequence[Sequence[AudioSegment]], parameters: Sequence[Mapping[str, object]], timeout_s: float
) -> list[list[Any]]:
    """Send a request for each group, all at once; return the outputs or errors of its items."""
    import grpc  # noqa: PLC0415 (an extra)

    from streamer.models.open_inference_client import error_of, trace_context  # noqa: PLC0415

    trace = trace_context()
    futures = [
        client.start([item.samples for item in group], timeout_s, each, trace)
        for group, each in zip(groups, parameters, strict=True)
    ]
    answers: list[list[Any]] = []
    for group, future in zip(groups, futures, strict=True):
        try:
            answers.append(client.result(future, len(group)))
        except grpc.RpcError as error:
            answers.append([error_of(error)] * len(group))
        except (KeyError, ValueError, IndexError) as error:  # the response is not what the metadata says
            answers.append([error] * len(group))
    return answers
