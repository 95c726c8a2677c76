"""Speech recognition with sherpa-onnx and weights from a directory: `pip install streamer-audio[sherpa-onnx]`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from streamer.models.contract import Executor, Model, Segment, StreamInfo, StreamingModel
from streamer.models.directory import existing, find, missing_package, need

Kind = Literal["auto", "transducer", "whisper", "paraformer", "sense_voice", "nemo_ctc", "zipformer_ctc"]


class SherpaOnnx(Model):
    """Recognises whole segments in batches. Returns `{"text": str, "tokens": [{"token", "start_time"}]}`.

    Times are seconds from the start of the stream. `directory`: an unpacked release of
    https://k2-fsa.github.io/sherpa/onnx/pretrained_models/. `kind`: its type; "auto" infers it from the files (encoder,
    decoder and joiner: transducer; no joiner: whisper; one model: sense_voice). `int8`: prefer quantised files if both
    exist. `threads`: of onnxruntime, per worker.

    The library ends its process if it cannot read a file, so the executor is a process.
    """

    name = "sherpa_onnx"
    executor: Executor = "process"
    max_batch_size = 8

    def __init__(self, directory: Path, kind: Kind = "auto", int8: bool = True, threads: int = 1) -> None:
        self._directory = existing("directory", directory)
        self._kind = kind
        self._int8 = int8
        self._threads = threads
        self._recognizer: Any = None

    def load(self) -> None:
        try:
            import sherpa_onnx  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise missing_package("sherpa-onnx", "sherpa-onnx") from error
        kind = self._guess() if self._kind == "auto" else self._kind
        build = getattr(sherpa_onnx.OfflineRecognizer, f"from_{kind}")
        self._recognizer = build(**self._files(kind), num_threads=self._threads)

    def infer(self, batch: Sequence[Segment]) -> Sequence[Any]:
        streams = []
        for item in batch:
            stream = self._recognizer.create_stream()
            stream.accept_waveform(item.sample_rate, item.samples)
            streams.append(stream)
        self._recognizer.decode_streams(streams)
        return [_answer(stream.result, item) for stream, item in zip(streams, batch, strict=True)]

    def _guess(self) -> str:
        if find(self._directory, "*joiner*.onnx"):
            return "transducer"
        return "whisper" if find(self._directory, "*encoder*.onnx") else "sense_voice"

    def _files(self, kind: str) -> dict[str, str]:
        parts = {
            "transducer": ("encoder", "decoder", "joiner"),
            "whisper": ("encoder", "decoder"),
            "paraformer": ("paraformer",),
        }.get(kind, ("model",))
        files = {part: _onnx(self._directory, part, int8=self._int8) for part in parts}
        return files | {"tokens": need(self._directory, "list of tokens", "*tokens.txt")}


class SherpaOnnxStreaming(StreamingModel[Any]):
    """A streaming transducer that continues from piece to piece. Returns `{"text": str, "endpoint": bool}`.

    The text is the words since the last endpoint; with `endpoint` they are complete, and the next text starts empty.
    For `simple`. `directory`, `int8` and `threads` as in SherpaOnnx; the model must be a streaming one.
    """

    name = "sherpa_onnx_streaming"
    executor: Executor = "process"
    max_batch_size = 16

    def __init__(self, directory: Path, int8: bool = True, threads: int = 1) -> None:
        self._directory = existing("directory", directory)
        self._int8 = int8
        self._threads = threads
        self._recognizer: Any = None

    def load(self) -> None:
        try:
            import sherpa_onnx  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise missing_package("sherpa-onnx", "sherpa-onnx") from error
        files = {part: _onnx(self._directory, part, int8=self._int8) for part in ("encoder", "decoder", "joiner")}
        self._recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(
            **files,
            tokens=need(self._directory, "list of tokens", "*tokens.txt"),
            num_threads=self._threads,
            enable_endpoint_detection=True,
        )

    def open(self, info: StreamInfo) -> Any:
        return self._recognizer.create_stream()

    def step(self, states: Sequence[Any], batch: Sequence[Segment]) -> Sequence[tuple[Any, Any]]:
        for stream, item in zip(states, batch, strict=True):
            stream.accept_waveform(item.sample_rate, item.samples)
        recognizer = self._recognizer
        while ready := [stream for stream in states if recognizer.is_ready(stream)]:
            recognizer.decode_streams(ready)
        return [(stream, self._answer(stream)) for stream in states]

    def close(self, state: Any) -> None:
        """Do nothing: the stream is freed with its last reference."""

    def _answer(self, stream: Any) -> dict[str, object]:
        text = self._recognizer.get_result(stream)
        endpoint = self._recognizer.is_endpoint(stream)
        if endpoint:
            self._recognizer.reset(stream)
        return {"text": text, "endpoint": endpoint}


def _onnx(directory: Path, part: str, *, int8: bool) -> str:
    plain, quantised = f"*{part}*.onnx", f"*{part}*.int8.onnx"
    if int8:
        return need(directory, part, quantised, plain)
    # A plain pattern also matches quantised names; the shorter name is the plain one.
    return need(directory, part, plain)


def _answer(result: Any, item: Segment) -> dict[str, object]:
    offset = item.start / item.sample_rate
    tokens = [
        {"token": token, "start_time": round(offset + time, 3)}
        for token, time in zip(result.tokens, result.timestamps, strict=False)  # some kinds of models have no times
    ]
    return {"text": result.text.strip(), "tokens": tokens}
