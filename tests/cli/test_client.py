"""`streamer client` as a real process against a real socket."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from aiohttp import web

from streamer.access import new_key
from streamer.app import App
from streamer.audio.files import read_audio
from streamer.cli.formatting import PlainView
from streamer.cli.send_recording import stream_recording
from streamer.cli.sinks import LoudspeakerSink
from streamer.cli.sources import Recording
from streamer.client.sources import wire_audio
from streamer.config import Settings
from streamer.errors import BadRequest
from tests.client.scripted import FINISHED, answering, serving, until_stop
from tests.transports.serving import serving as served

SHARED = Path(__file__).parents[3] / "shared" / "audio"
V1, V2 = "/api/v1/segmented", "/api/v2/segmented"

TOLD = [
    '{"type":"speech_started","channel":0,"time":0.17}',
    '{"type":"segment","channel":0,"segment_id":1,"start_time":0.17,"end_time":1.5,"is_final":false,'
    '"output":{"text":"the weather"}}',
    '{"type":"ack","received":8000,"committed":0}',
    '{"type":"speech_ended","channel":0,"time":2.59}',
    '{"type":"segment","channel":0,"segment_id":1,"start_time":0.17,"end_time":2.59,"is_final":true,'
    '"output":{"text":"the weather today"}}',
    '{"type":"segment","channel":0,"segment_id":2,"start_time":13.5,"end_time":15.0,"is_final":true,"output":{"n":1}}',
    '{"type":"error","code":"model_error","message":"no luck","fatal":false,"retryable":true,"channel":0,'
    '"start_time":16.0,"end_time":17.25}',
    FINISHED,
]


async def run(*arguments: object) -> tuple[int | None, str, str]:
    """Exit code, stdout, stderr of `streamer client ARGUMENTS`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streamer",
        "client",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def recording(path: Path, subtype: str = "PCM_16", channels: int = 1) -> np.ndarray:
    ramp = np.linspace(-1, 1, 1_000 * channels).reshape(-1, channels)
    soundfile.write(path, ramp, 8_000, subtype=subtype)
    return ramp


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    recording(tmp_path / "ramp.wav")
    return tmp_path / "ramp.wav"


async def tell(socket: web.WebSocketResponse, request: web.Request) -> None:
    await until_stop(socket)
    for frame in TOLD:
        await socket.send_str(frame)


async def tell_text(socket: web.WebSocketResponse, request: web.Request) -> None:
    await until_stop(socket)
    for frame in TOLD:
        if '{"n":1}' not in frame:
            await socket.send_str(frame)


async def test_plain_lines_when_nobody_watches(wav: Path) -> None:
    async with serving(tell) as address:
        code, out, err = await run("-i", wav, "-a", address + V2, "--interim-results")
    *lines, times = out.splitlines()
    assert lines == [
        "               speech starts at 0.17",
        "[ 0.17 - 1.50] the weather ...",
        "               speech ends at 2.59",
        "[ 0.17 - 2.59] the weather today",
        '[13.50 - 15.00] {"n":1}',
    ]
    assert times.startswith("first message after 0.")
    assert err == "error model_error [16.00 - 17.25]: no luck\n"
    assert code == 0


async def test_json_is_the_wires_own_and_alone_on_stdout(wav: Path) -> None:
    async with serving(tell) as address:
        code, out, err = await run("-i", wav, "-a", address + V2, "--json")
    assert out.splitlines() == TOLD
    assert err.startswith("first message after 0.")
    assert code == 0


async def test_a_trace_is_named_only_if_there_is_one(wav: Path) -> None:
    async with served() as app:
        code, out, _ = await run("-i", wav, "-a", address_of(app, V2))
    assert code == 0
    assert "trace" not in out

    async def traced(socket: web.WebSocketResponse, request: web.Request) -> None:
        await until_stop(socket)
        await socket.send_str(
            '{"type":"started","session_id":"s","mode":"segmented","model":{"name":"m","sample_rate":16000},'
            f'"limits":{{}},"traceparent":"00-{"ab" * 16}-{"cd" * 8}-01"}}'
        )
        await socket.send_str(FINISHED)

    async with serving(traced) as address:
        code, out, _ = await run("-i", wav, "-a", address + V2)
    assert code == 0
    assert out.strip().endswith(f", trace {'ab' * 16}")


CAPTION = "1\n00:00:00,170 --> 00:00:02,590\nthe weather today\n"


async def test_captions_are_printed_at_the_end_in_place_of_the_events(wav: Path) -> None:
    async with serving(tell_text) as address:
        code, out, err = await run("-i", wav, "-a", address + V2, "--interim-results", "--format", "srt")
    assert (code, out) == (0, CAPTION)
    problem, times = err.splitlines()
    assert problem == "error model_error [16.00 - 17.25]: no luck"
    assert times.startswith("first message after 0.")


async def test_captions_are_saved_in_the_format_of_their_files_suffix(wav: Path, tmp_path: Path) -> None:
    async with serving(tell_text) as address:
        for name, text in (("a.srt", CAPTION), ("a.txt", "the weather today\n")):
            code, out, _ = await run("-i", wav, "-a", address + V2, "-o", tmp_path / name)
            assert (tmp_path / name).read_text() == text
            assert code == 0
            assert "[ 0.17 - 2.59] the weather today\n" in out, "the events are shown as without a file"
        code, out, err = await run("-i", wav, "-a", address + V2, "-o", tmp_path / "no" / "a.vtt")
    assert (code, out) == (2, "")
    assert err.startswith("error: --output: ")
    assert "cannot be written: No such file or directory" in err


async def test_a_model_without_transcripts_makes_no_captions_and_says_so(wav: Path) -> None:
    async with serving(tell) as address:
        code, out, err = await run("-i", wav, "-a", address + V2, "--format", "vtt")
        both = await run("-i", wav, "-a", address + V2, "--format", "vtt", "--json")
    assert code == 1
    assert out.startswith("WEBVTT"), "the transcript up to there"
    assert "error: the model answers no transcripts" in err
    assert both == (2, "", "error: expected either --json or --format, got both\n")


@pytest.mark.parametrize("path", [V1, V2])
@pytest.mark.parametrize(
    ("subtype", "wire"), [("PCM_16", "<i2"), ("PCM_U8", "<i2"), ("PCM_24", "<f4"), ("FLOAT", "<f4")]
)
async def test_the_whole_recording_is_sent_as_it_is(tmp_path: Path, path: str, subtype: str, wire: str) -> None:
    ramp = recording(tmp_path / "ramp.wav", subtype, channels=2)
    got: list[object] = []

    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        got.extend(await until_stop(socket))

    sent = Recording(*wire_audio(read_audio(tmp_path / "ramp.wav")))
    async with serving(script) as address:
        view = PlainView(io.StringIO(), io.StringIO(), channels=2)
        assert await stream_recording(sent, address + path, view, chunk_bytes=7) is None
    texts, audio = got
    format_ = json.loads(texts[0])["format"]  # type: ignore[index]
    assert (format_["sample_rate"], format_["channels"]) == (8_000, 2)
    scale = 32_768 if wire == "<i2" else 1
    samples = np.frombuffer(audio, wire).reshape(-1, 2) / scale  # type: ignore[call-overload]
    assert np.abs(samples - ramp).max() <= (0.01 if subtype == "PCM_U8" else 1e-4)


async def test_a_file_that_cannot_be_read_is_one_line_and_exit_2(tmp_path: Path) -> None:
    notes = tmp_path / "notes.wav"
    notes.write_text("hello")
    for path in filter(Path.exists, [notes, SHARED / "awful.wav"]):
        code, out, err = await run("-i", path)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {path}: ")
        assert err.count("\n") == 1


async def test_more_channels_than_can_be_streamed_are_one_line_and_exit_2(tmp_path: Path) -> None:
    recording(tmp_path / "many.wav", channels=9)
    code, _, err = await run("-i", tmp_path / "many.wav")
    assert (code, err) == (2, f"error: {tmp_path}/many.wav: format.channels: expected an integer from 1 to 8, got 9\n")


async def test_a_server_that_is_not_there_is_one_line_and_exit_1(wav: Path, unused_tcp_port: int) -> None:
    address = f"ws://127.0.0.1:{unused_tcp_port}{V1}"
    assert await run("-i", wav, "-a", address) == (1, "", f"error: cannot reach {address}: connection refused\n")


async def test_a_refused_handshake_is_one_line_and_exit_1(wav: Path) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=401)

    async with answering(refuse) as address:
        code, out, err = await run("-i", wav, "-a", address + V1)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {address}{V1} refused the connection: HTTP 401")
    assert err.count("\n") == 1


async def test_a_server_that_wants_a_key_is_told_with_the_option(wav: Path) -> None:
    settings = Settings(server={"port": 0}, access={"keys": (str(new_key("alice")[1]),)})
    async with App(settings) as app:
        address = f"ws://127.0.0.1:{app.port}{V2}"
        code, out, err = await run("-i", wav, "-a", address)
        assert (code, out) == (1, "")
        assert err.splitlines()[-1].endswith("give a key or token with --token, or in STREAMER_TOKEN")
        code, _, err = await run("-i", wav, "-a", address, "--token", "sk_unknown")
        assert code == 1
        assert "does not know the key or token" in err.splitlines()[-1]


async def test_an_output_that_is_full_is_one_line_and_exit_1(wav: Path) -> None:
    async with App(Settings(server={"port": 0})) as app:
        address = f"ws://127.0.0.1:{app.port}{V2}"
        with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "streamer", "client", "-i", str(wav), "-a", address, "--json"),
                stdout=full,
                stderr=asyncio.subprocess.PIPE,
            )
            _, err = await process.communicate()
    assert process.returncode == 1
    assert err.decode() == "error: the output cannot be written: No space left on device\n"


async def test_an_address_that_names_no_dialect_is_one_line_and_exit_2(wav: Path) -> None:
    code, out, err = await run("-i", wav, "-a", "ws://localhost:8080/")
    assert (code, out) == (2, "")
    assert (
        err
        == "error: url: expected ws://HOST:PORT/api/v1|v2/simple|segmented or grpc://HOST:PORT, got 'ws://localhost:8080/'\n"
    )


async def test_a_stream_that_failed_is_exit_1_and_says_why(wav: Path) -> None:
    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.send_str('{"type":"error","message":"full","code":"overloaded","fatal":true,"channel":0}')
        await socket.close(code=1013, message=b"overloaded")

    async with serving(script) as address:
        code, out, err = await run("-i", wav, "-a", address + V1)
    assert code == 1
    assert out.startswith("first message after 0.")
    assert err == "error overloaded: full\nerror: overloaded: full\n"


async def test_a_stream_cut_short_is_exit_1(wav: Path) -> None:
    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        await until_stop(socket)
        await socket.close(code=1012, message=b"draining")

    async with serving(script) as address:
        code, out, err = await run("-i", wav, "-a", address + V1)
    assert (code, err) == (1, "error: the connection was closed (1012 draining)\n")
    assert out.startswith("no message, total 0.")


async def test_a_reader_that_leaves_is_no_traceback(wav: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    async with serving(tell) as address:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streamer", "client", "-i", wav, "-a", address + V2),
            stdout=writer,
            stderr=asyncio.subprocess.PIPE,
        )
        os.close(writer)
        _, err = await process.communicate()
    assert (process.returncode, err) == (1, b"error: the output was closed by its reader\n")


MATERIAL = Path(__file__).parents[1] / "media" / "material"


@pytest.mark.parametrize("name", ["vbr_id3.mp3", "opus_live.webm", "aac_faststart.m4a", "opus.ogg"])
async def test_a_compressed_file_is_sent_as_it_is(name: str) -> None:
    async with served() as app:
        code, out, _ = await run("-i", MATERIAL / name, "-a", address_of(app, V2), "--json", "--chunk-size", 4096)
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert events[-1]["type"] == "finished"
    assert events[-1]["received"] > 113_000


async def test_audio_comes_from_a_pipe_and_from_a_url() -> None:
    async def file(request: web.Request) -> web.FileResponse:
        return web.FileResponse(MATERIAL / request.match_info["name"])

    files = web.Application()
    files.router.add_get("/{name}", file)
    runner = web.AppRunner(files)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with served() as app:
            url = f"http://127.0.0.1:{port}/opus.ogg"
            code, out, _ = await run("-i", url, "-a", address_of(app, V2), "--json")
            assert (code, json.loads(out.splitlines()[-1])["received"]) == (0, 113_600)
            command = [sys.executable, "-m", "streamer", "client", "-i", "-", "-a", address_of(app, V2), "--json"]
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            piped, _ = await process.communicate((MATERIAL / "opus.ogg").read_bytes())
            assert json.loads(piped.splitlines()[-1])["received"] == 113_600
    finally:
        await runner.cleanup()


async def test_one_source_is_needed() -> None:
    code, _, err = await run("-a", "ws://localhost:1" + V2)
    assert (code, err) == (2, "error: expected either --input or --mic, got neither\n")


def address_of(app: App, path: str) -> str:
    return app.url.replace("http", "ws") + path


async def test_audio_out_is_saved_and_equals_the_input_of_a_passthrough(tmp_path: Path) -> None:
    ramp = recording(tmp_path / "in.wav", channels=2)
    async with serving_model("passthrough") as address:
        url = f"{address}/api/v2/simple"
        code, _, err = await run("-i", tmp_path / "in.wav", "-o", tmp_path / "out.wav", "-a", url)
    assert code == 0, err
    back, rate = soundfile.read(tmp_path / "out.wav")
    assert rate == 8_000
    assert back.shape == ramp.shape
    middle = slice(100, -100)
    assert np.abs(back[middle] - ramp[middle]).max() < 0.01


async def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    recording(tmp_path / "in.wav")
    async with serving_model("passthrough") as address:
        url = f"{address}/api/v2/simple"
        code, _, err = await run("-i", tmp_path / "in.wav", "-o", tmp_path / "no" / "out.wav", "-a", url)
    assert code == 2
    assert "--output" in err
    assert "No such file" in err


async def test_asking_a_model_without_audio_for_it_says_so(tmp_path: Path) -> None:
    recording(tmp_path / "in.wav")
    async with serving_model("stub") as address:
        url = f"{address}/api/v2/simple"
        code, _, err = await run("-i", tmp_path / "in.wav", "-o", tmp_path / "out.wav", "-a", url)
    assert code == 1
    assert "the model stub answers without audio" in err


def test_playing_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(BadRequest, match=r"streamer-audio\[play\]"):
        LoudspeakerSink()


@asynccontextmanager
async def serving_model(model: str) -> AsyncIterator[str]:
    async with App(Settings(server={"port": 0, "model": model})) as app:
        yield app.url.replace("http", "ws", 1)
