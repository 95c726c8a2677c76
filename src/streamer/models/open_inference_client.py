"""A client of inference servers that speak the Open Inference Protocol, version 2, over gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import numpy as np

from streamer.errors import ErrorCode, ModelLoadError, StreamerError
from streamer.models.contract import Samples
from streamer.models.pb import open_inference_pb2 as pb

T = TypeVar("T")

SERVICE = "/inference.GRPCInferenceService/"
READY_TIMEOUT_S = 20.0
"""Time-out in seconds of a question about the server or the model."""
_DTYPES = {
    "BOOL": np.bool_, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "UINT8": np.uint8,
    "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64, "FP16": np.float16, "FP32": np.float32,
    "FP64": np.float64,
}  # fmt: skip
"""numpy's types by the protocol's names."""
_LENGTHS = {"INT32": np.int32, "INT64": np.int64, "UINT32": np.uint32, "UINT64": np.uint64}
_FULL = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """A model of a server, and the names of its tensors; empty ones are found in its metadata."""

    url: str
    """host:port"""
    model: str
    version: str = ""
    input: str = ""
    """Name of the input of samples, FP32 [n] or [batch, n]."""
    lengths: str = ""
    """Name of the input of lengths, an integer for each item; empty: there is no such input."""
    outputs: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    tls: bool = False
    queue_timeout_ms: int = 0
    """Longest time in the server's own queue; 0: the time of the call."""


class Client:
    """One connection to one server, whose model was checked. Not thread-safe."""

    def __init__(self, target: ModelAddress) -> None:
        """Connect, and check the model. Raises ModelLoadError, naming what is missing."""
        self._target = target
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            # A connection of its own, to one server: the states of sequences are there.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.lb_policy_name", "pick_first"),
        ]
        if target.tls:
            self._channel = grpc.secure_channel(target.url, grpc.ssl_channel_credentials(), options)
        else:
            self._channel = grpc.insecure_channel(target.url, options)
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._channel.close()

    def start(
        self, samples: Sequence[Samples], timeout_s: float, parameters: Mapping[str, object], trace: Mapping[str, str]
    ) -> grpc.Future[Any]:
        """Send a request with these items; return its future, for `result`. `trace`: headers of the trace context."""
        target, count = self._target, len(samples)
        longest = max(1, *map(len, samples)) if samples else 1
        request = pb.ModelInferRequest(model_name=target.model, model_version=target.version)
        request.inputs.add(name=self._input, datatype="FP32", shape=[count, longest] if self._is_batched else [longest])
        if count == 1 and len(samples[0]) == longest:
            request.raw_input_contents.append(np.ascontiguousarray(samples[0], np.float32).tobytes())
        else:
            padded = np.zeros((count, longest), np.float32)
            for row, each in zip(padded, samples, strict=True):
                row[: len(each)] = each
            request.raw_input_contents.append(padded.tobytes())
        if target.lengths:
            lengths = np.array([len(each) for each in samples], _LENGTHS[self._lengths_type])
            shape = [count, 1][: self._lengths_rank] if self._is_batched else [1]
            request.inputs.add(name=target.lengths, datatype=self._lengths_type, shape=shape)
            request.raw_input_contents.append(lengths.tobytes())
        for name in self._outputs:
            request.outputs.add(name=name)
        queue_s = target.queue_timeout_ms / 1000 or timeout_s
        for key, value in {"timeout": int(min(queue_s, timeout_s) * 1e6), **parameters}.items():
            _set(request.parameters[key], value)
        metadata = (*target.headers, *trace.items())
        method = self._method("ModelInfer", pb.ModelInferResponse)
        future: grpc.Future[Any] = method.future(request, timeout=timeout_s, metadata=metadata)
        return future

    def result(self, future: grpc.Future[Any], count: int) -> list[Any]:
        """Wait for a response, and return the output of each of its `count` items. Raises grpc.RpcError."""
        response: pb.ModelInferResponse = future.result()
        columns = {}
        for index, tensor in enumerate(response.outputs):
            raw = response.raw_output_contents[index] if index < len(response.raw_output_contents) else None
            values = _values(tensor, raw)
            columns[tensor.name] = list(values) if self._is_batched else [values]
        ordered = {name: columns[name] for name in self._outputs}
        rows = [{name: _plain(column[row]) for name, column in ordered.items()} for row in range(count)]
        return [next(iter(row.values())) for row in rows] if len(ordered) == 1 else list(rows)

    def idle_s(self) -> float | None:
        """Return after how many idle seconds the server forgets a sequence; None if it does not say."""
        try:
            request = pb.ModelConfigRequest(name=self._target.model, version=self._target.version)
            config = self._ask("ModelConfig", request, pb.ModelConfigResponse).config
        except grpc.RpcError:  # not a Triton
            return None
        idle = config.sequence_batching.max_sequence_idle_microseconds
        return idle / 1e6 if idle else None

    def _check(self) -> None:
        target = self._target
        where = f"{target.model!r} at {target.url}"
        try:
            server = self._ask("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse)
            named = {"name": target.model, "version": target.version}
            model = self._ask("ModelReady", pb.ModelReadyRequest(**named), pb.ModelReadyResponse)
            found = self._ask("ModelMetadata", pb.ModelMetadataRequest(**named), pb.ModelMetadataResponse)
        except grpc.RpcError as error:
            raise ModelLoadError(f"{where}: {code_of(error).name}: {error.details()}") from None
        if not server.ready or not model.ready:
            raise ModelLoadError(f"{where}: the {'model' if server.ready else 'server'} is not ready")
        inputs = {each.name: each for each in found.inputs}
        others = [name for name in inputs if name != target.lengths]
        self._input = target.input or (others[0] if len(others) == 1 else "")
        samples = inputs.get(self._input)
        if samples is None:
            expected = "the name of an input" if target.input else "model.input, as there are several inputs"
            raise ModelLoadError(
                f"{where}: expected {expected}, one of {', '.join(inputs) or 'none'}, got {self._input!r}"
            )
        if samples.datatype != "FP32" or len(samples.shape) not in (1, 2):
            shape = f"{samples.datatype} {list(samples.shape)}"
            raise ModelLoadError(f"{where}: input {self._input}: expected FP32 [n] or FP32 [batch, n], got {shape}")
        self._is_batched = len(samples.shape) == 2
        if target.lengths:
            lengths = inputs.get(target.lengths)
            if lengths is None or lengths.datatype not in _LENGTHS:
                got = "no such input" if lengths is None else lengths.datatype
                raise ModelLoadError(f"{where}: input {target.lengths}: expected {' or '.join(_LENGTHS)}, got {got}")
            self._lengths_type, self._lengths_rank = lengths.datatype, len(lengths.shape)
        known = [each.name for each in found.outputs]
        self._outputs = target.outputs or tuple(known)
        if missing := set(self._outputs) - set(known):
            names = ", ".join(sorted(missing))
            raise ModelLoadError(f"{where}: expected outputs among {', '.join(known) or 'none'}, got {names}")

    @property
    def is_batched(self) -> bool:
        """Whether the input has a dimension for the items of a batch."""
        return self._is_batched

    def _ask(self, method: str, request: Any, response: type[T]) -> T:
        metadata = self._target.headers
        answer: T = self._method(method, response)(request, timeout=READY_TIMEOUT_S, metadata=metadata)
        return answer

    def _method(self, name: str, response: Any) -> Any:
        return self._channel.unary_unary(
            SERVICE + name, lambda message: message.SerializeToString(), response.FromString
        )


def error_of(error: grpc.RpcError) -> Exception:
    """Return the error of an item for an error of the server."""
    code = code_of(error)
    detail = f"{code.name}: {error.details()}"
    if code in _FULL:
        return StreamerError("the inference server is full or away: try again later", code=ErrorCode.OVERLOADED)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return StreamerError("the model took too long for this segment", code=ErrorCode.MODEL_TIMEOUT)
    return RuntimeError(detail)


def code_of(error: grpc.RpcError) -> grpc.StatusCode:
    """Return the status of an error."""
    code: grpc.StatusCode = error.code()
    return code


def trace_context() -> dict[str, str]:
    """Return the headers of the current trace; empty without one."""
    try:
        from opentelemetry import propagate  # noqa: PLC0415 (an extra)
    except ImportError:
        return {}
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


def _set(parameter: pb.InferParameter, value: object) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    else:
        assert isinstance(value, int)
        parameter.int64_param = value


def _values(tensor: pb.ModelInferResponse.InferOutputTensor, raw: bytes | None) -> Any:
    """Return a tensor as an array: of numbers, or of text for BYTES."""
    shape = tuple(tensor.shape)
    if raw is None:  # in typed fields, as servers other than Triton may answer
        contents = tensor.contents
        found = [list(values) for _, values in contents.ListFields()]
        values = found[0] if found else []
        flat = [_text(each) for each in values] if tensor.datatype == "BYTES" else values
        return np.array(flat, dtype=object if tensor.datatype == "BYTES" else None).reshape(shape)
    if tensor.datatype == "BYTES":
        return np.array(_strings(raw), dtype=object).reshape(shape)
    if tensor.datatype not in _DTYPES:
        raise ValueError(f"output {tensor.name}: expected {', '.join(_DTYPES)} or BYTES, got {tensor.datatype}")
    return np.frombuffer(raw, _DTYPES[tensor.datatype]).reshape(shape)


def _strings(raw: bytes) -> list[str]:
    """Return texts that each follow their length in four bytes."""
    texts, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        texts.append(_text(raw[at + 4 : at + 4 + size]))
        at += 4 + size
    return texts


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _plain(value: Any) -> Any:
    """Return a value for JSON: one alone instead of a list of one."""
    listed = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    while isinstance(listed, list) and len(listed) == 1:
        [listed] = listed
    return listed
