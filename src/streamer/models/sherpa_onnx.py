"""Speech recognition with sherpa-onnx: streaming zipformers, Parakeet, and its other models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from streamer.models.catalogue import SHERPA_FILES
from streamer.models.contract import AudioSegment, Executor, Model, StreamInfo, StreamingModel, WordTimes
from streamer.models.weight_files import find_file, missing_package, require_directory, require_file
from streamer.models.weights import find_weights
from streamer.transcripts.transcript import Transcript, Word

RecognizerKind = Literal["auto", "transducer", "whisper", "paraformer", "sense_voice", "nemo_ctc", "zipformer_ctc"]


@dataclass(frozen=True, slots=True)
class Named:
    """Weights that are found, or fetched, when a worker loads them."""

    model: str
    name: str
    revision: str | None = None


class SherpaOnnx(Model):
    """Recognises whole segments in batches. Returns a Transcript, with words if the kind of model gives times.

    `directory`: an unpacked release of https://k2-fsa.github.io/sherpa/onnx/pretrained_models/. `kind`: its type;
    "auto" infers it from the files (encoder, decoder and joiner: transducer; no joiner: whisper; one model:
    sense_voice). `type_of_transducer`: as sherpa-onnx names it, such as "nemo_transducer". `weights`: a name instead of
    a directory. `int8`: prefer quantised files if both exist. `threads`: of onnxruntime, per worker.

    The library ends its process if it cannot read a file, so the executor is a process.
    """

    name = "sherpa_onnx"
    executor: Executor = "process"
    max_batch_size = 8
    word_times: WordTimes = "model"

    def __init__(
        self,
        directory: Path | None = None,
        kind: RecognizerKind = "auto",
        int8: bool = True,
        threads: int = 1,
        type_of_transducer: str = "",
        weights: Named | None = None,
    ) -> None:
        self._where = weights or require_directory("directory", directory)
        self._type = type_of_transducer
        self._kind = kind
        known = _guess(self._where) if kind == "auto" and isinstance(self._where, Path) else kind
        if known == "whisper":  # the only kind without times
            self.word_times = "estimated"
        self._int8 = int8
        self._threads = threads
        self._recognizer: Any = None

    def fetch(self) -> Path:
        return _found(self._where)

    def load(self) -> None:
        try:
            import sherpa_onnx  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise missing_package("sherpa-onnx", "sherpa-onnx") from error
        directory = self.fetch()
        kind = _guess(directory) if self._kind == "auto" else self._kind
        build = getattr(sherpa_onnx.OfflineRecognizer, f"from_{kind}")
        more = {"model_type": self._type} if self._type and kind == "transducer" else {}
        self._recognizer = build(**self._files(directory, kind), num_threads=self._threads, **more)

    def infer(self, batch: Sequence[AudioSegment]) -> Sequence[Any]:
        streams = []
        for item in batch:
            stream = self._recognizer.create_stream()
            stream.accept_waveform(item.sample_rate, item.samples)
            streams.append(stream)
        self._recognizer.decode_streams(streams)
        return [_answer(stream.result, item) for stream, item in zip(streams, batch, strict=True)]

    def _files(self, directory: Path, kind: str) -> dict[str, str]:
        parts = {
            "transducer": ("encoder", "decoder", "joiner"),
            "whisper": ("encoder", "decoder"),
            "paraformer": ("paraformer",),
        }.get(kind, ("model",))
        files = {part: _onnx(directory, part, int8=self._int8) for part in parts}
        return files | {"tokens": require_file(directory, "list of tokens", "*tokens.txt")}


class SherpaOnnxStreaming(StreamingModel[Any]):
    """A streaming transducer that continues from piece to piece. Returns a Transcript.

    The text is the words since the last endpoint; with `endpoint` they are complete, and the next text starts empty.
    For `simple`. `directory`, `int8`, `threads` and `weights` as in SherpaOnnx; the model must be a streaming one.
    """

    name = "sherpa_onnx_streaming"
    executor: Executor = "process"
    max_batch_size = 16
    word_times: WordTimes = "estimated"

    def __init__(
        self, directory: Path | None = None, int8: bool = True, threads: int = 1, weights: Named | None = None
    ) -> None:
        self._where = weights or require_directory("directory", directory)
        self._int8 = int8
        self._threads = threads
        self._recognizer: Any = None

    def fetch(self) -> Path:
        return _found(self._where)

    def load(self) -> None:
        try:
            import sherpa_onnx  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise missing_package("sherpa-onnx", "sherpa-onnx") from error
        directory = self.fetch()
        files = {part: _onnx(directory, part, int8=self._int8) for part in ("encoder", "decoder", "joiner")}
        self._recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(
            **files,
            tokens=require_file(directory, "list of tokens", "*tokens.txt"),
            num_threads=self._threads,
            enable_endpoint_detection=True,
        )

    def open(self, info: StreamInfo) -> Any:
        return self._recognizer.create_stream()

    def step(self, states: Sequence[Any], batch: Sequence[AudioSegment]) -> Sequence[tuple[Any, Any]]:
        for stream, item in zip(states, batch, strict=True):
            stream.accept_waveform(item.sample_rate, item.samples)
        recognizer = self._recognizer
        while ready := [stream for stream in states if recognizer.is_ready(stream)]:
            recognizer.decode_streams(ready)
        return [(stream, self._answer(stream)) for stream in states]

    def close(self, state: Any) -> None:
        """Do nothing: the stream is freed with its last reference."""

    def _answer(self, stream: Any) -> Transcript:
        text = self._recognizer.get_result(stream)
        endpoint = self._recognizer.is_endpoint(stream)
        if endpoint:
            self._recognizer.reset(stream)
        return Transcript(text.strip(), endpoint=endpoint)


def _onnx(directory: Path, part: str, *, int8: bool) -> str:
    plain, quantised = f"*{part}*.onnx", f"*{part}*.int8.onnx"
    if int8:
        return require_file(directory, part, quantised, plain)
    # A plain pattern also matches quantised names; the shorter name is the plain one.
    return require_file(directory, part, plain)


def _answer(result: Any, item: AudioSegment) -> Transcript:
    text = result.text.strip()
    if len(result.timestamps) != len(result.tokens):  # some kinds of model give no times
        return Transcript(text)
    begins: list[tuple[str, float]] = []
    for token, time in zip(result.tokens, result.timestamps, strict=True):
        piece = token.replace("\u2581", " ")
        if begins and not piece.startswith(" "):
            begins[-1] = (begins[-1][0] + piece, begins[-1][1])
        else:
            begins.append((piece.strip(), float(time)))
    ends = [*(time for _, time in begins[1:]), item.seconds]
    return Transcript(text, [Word(word, time, end) for (word, time), end in zip(begins, ends, strict=False) if word])


def _guess(directory: Path) -> str:
    if find_file(directory, "*joiner*.onnx"):
        return "transducer"
    return "whisper" if find_file(directory, "*encoder*.onnx") else "sense_voice"


def _found(where: Path | Named) -> Path:
    return where if isinstance(where, Path) else find_weights(where.model, where.name, SHERPA_FILES, where.revision)


def sherpa(
    weights: str = "zipformer-en-20M", revision: str | None = None, int8: bool = True, threads: int = 1
) -> SherpaOnnxStreaming:
    """Make a streaming recogniser with weights by name, `owner/name` on the hub, or a directory; for `simple`."""
    return SherpaOnnxStreaming(int8=int8, threads=threads, weights=Named("sherpa", weights, revision))


def parakeet(weights: str = "tdt-0.6b-v2", revision: str | None = None, threads: int = 1) -> SherpaOnnx:
    """Make NVIDIA's Parakeet with weights by name, `owner/name` on the hub, or a directory."""
    return SherpaOnnx(
        kind="transducer",
        type_of_transducer="nemo_transducer",
        threads=threads,
        weights=Named("parakeet", weights, revision),
    )
