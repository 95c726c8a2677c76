"""`streamer bench`: the capacity of a server, and the latency of its streams."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.cli.overrides import overrides
from streamer.session.events import Mode

if TYPE_CHECKING:
    from streamer.loadtest.run import LoadPlan
    from streamer.loadtest.workload import Workload

ENDPOINT = "/api/v2/segmented"
SERVER, LOAD, SEARCH = "Server", "Load", "Capacity search"


def _option(panel: str, help_: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help_, rich_help_panel=panel, **more)


Address = Annotated[str | None, _option(SERVER, "Endpoint of a running server.", "--address", "-a", metavar="URL")]
Serve = Annotated[str | None, _option(SERVER, "Or start a server with this model for each step.", metavar="MODEL")]
Setting = Annotated[
    list[str] | None, _option(SERVER, "A setting of that server. Can be repeated.", "--set", metavar="KEY=VALUE")
]
EndpointOption = Annotated[
    str, _option(SERVER, "With --serve: the path (protocol version and mode), or grpc.", metavar="PATH|grpc")
]
ModeOption = Annotated[Mode, _option(SERVER, "Mode over gRPC. Over WebSocket the path selects it.")]
ServerPid = Annotated[
    int | None, _option(SERVER, "With --address: the server's process id, to measure CPU and memory.", metavar="PID")
]
Token = Annotated[str | None, _option(SERVER, "Key or token.", envvar="STREAMER_TOKEN")]
Streams = Annotated[str, _option(LOAD, "Concurrent streams. Several numbers make several steps.", metavar="N[,N...]")]
Measured = Annotated[float, _option(LOAD, "Measured seconds per step.")]
Warmup = Annotated[float, _option(LOAD, "Seconds of load before the measurement.")]
Ramp = Annotated[float, _option(LOAD, "Seconds over which the streams start.")]
Recordings = Annotated[
    list[str] | None,
    _option(
        LOAD,
        "Recording to send: a file (WAV, FLAC, ...) or a URL. Can be repeated.",
        metavar="FILE",
        show_default="synthetic speech",
    ),
]
Duty = Annotated[float, _option(LOAD, "Share of the audio that is speech (0 to 1).")]
SampleRate = Annotated[int, _option(LOAD, "Sample rate in Hz.")]
EncodingOption = Annotated[str, _option(LOAD, "Encoding: pcm_s16le, pcm_f32le, mulaw, ...")]
ChunkMs = Annotated[float, _option(LOAD, "Audio per message, in milliseconds.")]
ChunkBytes = Annotated[int | None, _option(LOAD, "Audio per message, in bytes. Overrides --chunk-ms.")]
JitterMs = Annotated[float, _option(LOAD, "Maximum random delay per message, in milliseconds.")]
Seed = Annotated[int, _option(LOAD, "Random seed.", min=0)]
Interims = Annotated[bool, _option(LOAD, "Request interim results.", "--interim-results")]
AudioOut = Annotated[
    bool, _option(LOAD, "Request the model's audio, and measure its delay and its gaps.", "--audio-out")
]
Redemption = Annotated[
    float | None,
    _option(
        LOAD,
        "Silence that ends speech, in milliseconds: requested on v2, assumed on v1.",
        show_default="the server's default, 600",
    ),
]
Processes = Annotated[int, _option(LOAD, "Load generator processes. 0: as many as needed.", min=0, max=64)]
FindCapacity = Annotated[bool, _option(SEARCH, "Search for the capacity, starting at --streams.", "--find-capacity")]
Slo = Annotated[
    str, _option(SEARCH, "p50|p90|p95|p99|max _ first|interim|final|final_whole|lag|audio _ms=NUMBER", metavar="GOAL")
]
MaxStreams = Annotated[int, _option(SEARCH, "Upper limit of the search.", min=1)]
Out = Annotated[Path, typer.Option(help="Write the report to PATH.json and PATH.html.", metavar="PATH")]


def bench(
    *,
    address: Address = None,
    serve: Serve = None,
    set_: Setting = None,
    endpoint: EndpointOption = ENDPOINT,
    mode: ModeOption = Mode.SEGMENTED,
    server_pid: ServerPid = None,
    token: Token = None,
    streams: Streams = "50",
    seconds: Measured = 20.0,
    warmup: Warmup = 3.0,
    ramp: Ramp = 2.0,
    recording: Recordings = None,
    duty: Duty = 0.5,
    sample_rate: SampleRate = 16_000,
    encoding: EncodingOption = "pcm_s16le",
    chunk_ms: ChunkMs = 20.0,
    chunk_bytes: ChunkBytes = None,
    jitter_ms: JitterMs = 0.0,
    seed: Seed = 0,
    interim_results: Interims = False,
    audio_out: AudioOut = False,
    redemption_ms: Redemption = None,
    processes: Processes = 0,
    find_capacity: FindCapacity = False,
    slo: Slo = "p99_final_ms=250",
    max_streams: MaxStreams = 4_000,
    out: Out = Path("bench"),
) -> None:
    """Measure the latency and the capacity of a server with many concurrent streams in real time.

    The load is an open loop: messages are sent on a fixed schedule, whatever the server does. A load generator that
    falls behind its schedule is reported. Latencies are percentiles over all streams. The final latency excludes the
    silence that ends an utterance. Exit codes: 1 if nothing could be measured, 2 for invalid options.
    """
    from streamer.cli.bench_run import MeasuredServer, RunSpec, run_benchmark
    from streamer.cli.server_subprocess import ServerFailed
    from streamer.errors import StreamerError
    from streamer.loadtest.capacity import Goal

    try:
        workload = _workload(
            encoding, sample_rate, chunk_ms, chunk_bytes, duty, jitter_ms, seed, ramp, warmup, seconds, interim_results,
            audio_out
        )  # fmt: skip
        numbers = _numbers(streams)
        goal = Goal.parse(slo) if find_capacity else None
        plan, names = _plan(workload, recording or [], redemption_ms, processes)
        settings = tuple(_settings(set_ or ()))
        server = MeasuredServer(address, serve, settings, endpoint, mode, server_pid, token).check(plan)
    except StreamerError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(2) from None
    try:
        run_benchmark(RunSpec(server, plan, names, numbers, goal, max_streams, out))
    except (StreamerError, ServerFailed) as failure:
        typer.echo(f"error: {failure}", err=True)
        raise typer.Exit(1) from None


def _settings(pairs: list[str] | tuple[str, ...]) -> list[str]:
    list(overrides(pairs))  # an invalid pair exits here
    return [word for pair in pairs for word in ("--set", pair)]


def _numbers(text: str) -> list[int]:
    from streamer.errors import ConfigError
    from streamer.loadtest.workload import MAX_STREAMS

    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(1 <= number <= MAX_STREAMS for number in numbers):
        raise ConfigError(field="--streams", expected=f"numbers from 1 to {MAX_STREAMS}, such as 100,200", got=text)
    return numbers


def _workload(
    encoding: str, sample_rate: int, chunk_ms: float, chunk_bytes: int | None, duty: float, jitter_ms: float,
    seed: int, ramp_s: float, warmup_s: float, seconds: float, interim_results: bool,
    audio_out: bool,
) -> Workload:  # fmt: skip
    from streamer.audio.format import AudioFormat, Encoding
    from streamer.errors import ConfigError
    from streamer.loadtest.workload import Workload, chunk_frames

    if encoding not in list(Encoding):
        raise ConfigError(field="--encoding", expected=f"one of {', '.join(Encoding)}", got=encoding)
    format_ = AudioFormat(Encoding(encoding), sample_rate, 1).check()
    frames = chunk_frames(format_, chunk_ms=chunk_ms, chunk_bytes=chunk_bytes)
    return Workload(format_, frames, duty, jitter_ms, seed, ramp_s, warmup_s, seconds, interim_results, audio_out)


def _plan(
    workload: Workload, recordings: list[str], redemption_ms: float | None, processes: int
) -> tuple[LoadPlan, list[str]]:
    """Return the load of every step, and the names of its recordings."""
    from importlib.resources import as_file

    from streamer.cli.recordings import file_name, read_recording
    from streamer.loadtest.endpointing import EndpointingModel
    from streamer.loadtest.run import LoadPlan
    from streamer.loadtest.tape import make_tape
    from streamer.samples import sample
    from streamer.session.messages import VadOverrides
    from streamer.vad.settings import VadConfig

    if recordings:
        recorded = [read_recording(name) for name in recordings]
    else:
        with as_file(sample()) as path:
            recorded = [read_recording(str(path))]
    endpointing, vad = EndpointingModel(), VadOverrides()
    if redemption_ms is not None:
        VadConfig(redemption_time_ms=redemption_ms)
        endpointing, vad = EndpointingModel(redemption_ms), VadOverrides(redemption_time_ms=redemption_ms)
    plan = LoadPlan(workload, make_tape(workload, recorded), endpointing, vad, processes)
    return plan, [file_name(name) for name in recordings] or ["weather.wav (packaged synthetic speech)"]
