"""A server of the Open Inference Protocol for tests: it counts samples, and keeps a sum for each sequence."""

from __future__ import annotations

import threading
from concurrent import futures
from typing import Any

import grpc
import numpy as np

from streamer.models.open_inference_client import SERVICE
from streamer.models.pb import open_inference_pb2 as pb

TYPES = {"FP32": np.float32, "INT32": np.int32, "INT64": np.int64}


class InferenceServer:
    """Serves one model on a free port. Its behaviour can be changed while it runs."""

    def __init__(self, *, streaming: bool = False, batched: bool = True, outputs: tuple[str, ...] = ("count",)) -> None:
        self.is_ready = self.model_is_ready = True
        self.inputs: dict[str, tuple[str, list[int]]] = {"audio": ("FP32", [-1, -1] if batched else [-1])}
        self.outputs = outputs
        self.idle_us = 0
        self.has_config = True
        self.typed = False
        """Answer in typed fields instead of raw bytes."""
        self.fails: list[tuple[grpc.StatusCode, str]] = []
        """Errors of the next requests, in their order."""
        self.hold = threading.Event()
        self.hold.set()
        self.requests: list[pb.ModelInferRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self.sums: dict[int, int] = {}
        self._streaming, self._batched = streaming, batched
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(32))
        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                getattr(self, name), getattr(pb, f"{name}Request").FromString, lambda answer: answer.SerializeToString()
            )
            for name in ("ServerReady", "ModelReady", "ModelMetadata", "ModelInfer", "ModelConfig")
        }
        service = SERVICE.strip("/")
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> InferenceServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self._server.stop(0).wait()

    def ServerReady(self, request, context):
        return pb.ServerReadyResponse(ready=self.is_ready)

    def ModelReady(self, request, context):
        if request.name != "counter":
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name}")
        return pb.ModelReadyResponse(ready=self.model_is_ready)

    def ModelMetadata(self, request, context):
        answer = pb.ModelMetadataResponse(name=request.name)
        for name, (datatype, shape) in self.inputs.items():
            answer.inputs.add(name=name, datatype=datatype, shape=shape)
        for name in self.outputs:
            answer.outputs.add(name=name, datatype="INT64", shape=[-1, 1])
        return answer

    def ModelConfig(self, request, context):
        if not self.has_config:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")
        config = pb.ModelConfig(sequence_batching=pb.ModelSequenceBatching(max_sequence_idle_microseconds=self.idle_us))
        return pb.ModelConfigResponse(config=config)

    def ModelInfer(self, request, context):
        with self._lock:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            fails = self.fails.pop(0) if self.fails else None
        if fails is not None:
            context.abort(*fails)
        self.hold.wait(30)
        arrays = {
            tensor.name: np.frombuffer(raw, TYPES[tensor.datatype]).reshape(tuple(tensor.shape))
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        audio = arrays["audio"] if self._batched else arrays["audio"][None]
        lengths = arrays["lengths"].reshape(-1) if "lengths" in arrays else [audio.shape[1]] * len(audio)
        counts = np.array([int(length) for length in lengths], np.int64)
        if self._streaming:
            counts = self._in_sequence(request, counts, context)
        return self._answer(counts)

    def _in_sequence(self, request, counts, context):
        parameters = request.parameters
        sequence = parameters["sequence_id"].int64_param
        with self._lock:
            if parameters["sequence_start"].bool_param:
                self.sums[sequence] = 0
            elif sequence not in self.sums:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"sequence {sequence} must specify the START flag")
            self.sums[sequence] += int(counts[0])
            total = self.sums[sequence]
            if parameters["sequence_end"].bool_param:
                del self.sums[sequence]
        return np.array([total], np.int64)

    def _answer(self, counts):
        answer = pb.ModelInferResponse(model_name="counter")
        shape = [len(counts), 1] if self._batched else [1]
        for name in self.outputs:
            if name == "text":
                tensor = answer.outputs.add(name=name, datatype="BYTES", shape=shape)
                texts = [f"{count} Töne".encode() for count in counts]
                if self.typed:
                    tensor.contents.bytes_contents.extend(texts)
                else:
                    answer.raw_output_contents.append(
                        b"".join(len(text).to_bytes(4, "little") + text for text in texts)
                    )
            else:
                tensor = answer.outputs.add(name=name, datatype="INT64", shape=shape)
                if self.typed:
                    tensor.contents.int64_contents.extend(counts.tolist())
                else:
                    answer.raw_output_contents.append(counts.tobytes())
        return answer
