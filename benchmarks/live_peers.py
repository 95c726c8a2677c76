"""Live recognisers beside each other: the same recordings, at real time, one server after the other, in one run.

    python -m benchmarks.live_peers --peers /path/of/peers --streams 1,2,4 MANIFEST

MANIFEST has lines of file, tab, words. `--peers` is a directory with two virtual environments: `wlk` (pip install
whisperlivekit), which also runs WhisperLive unpacked in `wlc` (pip install --no-deps --target wlc whisper-live), and
`mv` (pip install moonshine-voice==0.0.73 websockets). Whatever is missing is left out.

Each recording is followed by two seconds of silence. Two latencies are taken of the words that a client can show, final
or not: until the first ones, from where speech begins; until they change no more, from where speech ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import aiohttp
import numpy as np
import psutil
import soundfile
import soxr

from benchmarks.live_servers import RATE, Contender, contenders, cpu_s, running
from streamer.evaluation.accuracy import compare, normaliser
from streamer.vad import VadConfig, speech_segments

CHUNK = RATE // 10
SILENCE_S = 2.0
PATIENCE_S = 15.0


@dataclass
class Heard:
    """What one client has been shown: (monotonic seconds, words) of each change."""

    changes: list[tuple[float, str]] = field(default_factory=list)
    last: float = 0.0
    """Monotonic seconds of the last message with words."""

    def show(self, text: str) -> None:
        self.last = monotonic()
        words = " ".join("".join(c if c.isalnum() or c == "'" else " " for c in text.lower()).split())
        if words and (not self.changes or self.changes[-1][1] != words):
            self.changes.append((monotonic(), words))


@dataclass(frozen=True)
class Clip:
    name: str
    words: str
    samples: np.ndarray
    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE + SILENCE_S

    @classmethod
    def read(cls, path: Path, words: str) -> Clip:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        mono = np.asarray(soxr.resample(samples.mean(axis=1), rate, RATE), dtype=np.float32)
        found = speech_segments(mono, RATE, VadConfig(pre_speech_pad_ms=0))
        return cls(path.name, words, mono, found[0].start / RATE, found[-1].end / RATE)


async def stream(contender: Contender, port: int, clip: Clip) -> tuple[Heard, float]:
    """Stream one recording; return what was shown, and when its audio began."""
    heard, texts = Heard(), contender.texts()
    audio = np.concatenate([clip.samples, np.zeros(int(SILENCE_S * RATE), np.float32)])
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"ws://127.0.0.1:{port}{contender.path}", max_msg_size=0) as ws,
    ):
        if contender.hello:
            await ws.send_str(contender.hello)
        while contender.ready and contender.ready not in (await asyncio.wait_for(ws.receive(), 60)).data:
            pass

        async def read() -> None:
            async for message in ws:
                if message.type == aiohttp.WSMsgType.TEXT and "DISCONNECT" not in message.data:
                    event = json.loads(message.data)
                    text = texts(event)
                    if text is not None:
                        heard.show(text)
                    if event.get("type") in ("ready_to_stop", "finished"):
                        return

        reading = asyncio.create_task(read())
        began = monotonic()
        for at in range(0, len(audio), CHUNK):
            await asyncio.sleep(max(0.0, began + (at + CHUNK) / RATE - monotonic()))
            piece = audio[at : at + CHUNK]
            await ws.send_bytes(piece.tobytes() if contender.floats else (piece * 32767).astype("<i2").tobytes())
        while contender.linger_s and monotonic() - max(heard.last, began + len(audio) / RATE) < contender.linger_s:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        await (ws.send_str if isinstance(contender.stop, str) else ws.send_bytes)(contender.stop)
        await asyncio.wait([reading], timeout=PATIENCE_S)
        reading.cancel()
    return heard, began


async def measure(contender: Contender, clips: list[Clip], counts: list[int]) -> None:
    normalise = normaliser("english")
    async with running(contender) as (port, process):
        for _ in range(240):
            try:
                await stream(contender, port, clips[0])  # warms it up
                break
            except aiohttp.WSServerHandshakeError:  # its model is not loaded yet
                await asyncio.sleep(0.5)
        await at_rest(process)
        for count in counts:
            plan = [(clips[n % len(clips)], 0.37 * n) for n in range(count)] if count > 1 else []
            before, began = cpu_s(process), monotonic()
            if plan:
                found = await asyncio.gather(*(later(contender, port, clip, wait) for clip, wait in plan))
                used = [clip for clip, _ in plan]
            else:
                found, used = [], clips
                for clip in clips:
                    found.append(await stream(contender, port, clip))
                    await at_rest(process)
            await at_rest(process)
            spent, wall = cpu_s(process) - before, monotonic() - began
            report(contender, count, used, found, normalise, (spent, wall, process))


async def at_rest(process: psutil.Process) -> None:
    """Wait until a server works no more on what it was sent, so that no recording pays for the one before it."""
    for _ in range(30):
        before = cpu_s(process)
        await asyncio.sleep(1.0)
        if cpu_s(process) - before < 0.05:
            return


async def later(contender: Contender, port: int, clip: Clip, wait: float) -> tuple[Heard, float]:
    await asyncio.sleep(wait)
    return await stream(contender, port, clip)


def report(contender, count, clips, found, normalise, costs) -> None:  # type: ignore[no-untyped-def]
    spent, wall, process = costs
    first, last, errors, words = [], [], 0, 0
    for clip, (heard, began) in zip(clips, found, strict=True):
        text = heard.changes[-1][1] if heard.changes else ""
        compared = compare(clip.words, text, normalise).words
        errors, words = errors + compared.errors, words + compared.total
        if heard.changes:
            first.append(heard.changes[0][0] - began - clip.begin_s)
            last.append(heard.changes[-1][0] - began - clip.end_s)
        print(f"    {clip.name}: {text}", file=sys.stderr)
    audio = sum(clip.seconds for clip in clips)
    in_time = sum(value <= 2.0 for value in last)
    memory = sum(each.memory_info().rss for each in [process, *process.children(recursive=True)]) / 2**20
    print(
        f"| {contender.name} | {count} | {_ms(first)} | {_ms(last)} | {in_time} of {len(clips)} | {errors} of {words} "
        f"| {1000 * spent / audio:.0f} | {spent / wall:.2f} | {memory:.0f} | {os.getloadavg()[0]:.0f} |",
        flush=True,
    )


def _ms(values: list[float]) -> str:
    return f"{1000 * statistics.median(values):.0f} ({1000 * max(values):.0f})" if values else "none"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--peers", type=Path, default=Path("/tmp/peers"))
    parser.add_argument("--streams", default="1,4")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    rows = [line.split("\t") for line in options.manifest.read_text().splitlines() if line]
    clips = [Clip.read(options.manifest.parent / name, words) for name, words in rows]
    columns = ["server", "streams", "first words, ms", "complete, ms", "complete within 2 s", "wrong words"]
    columns += ["CPU ms/s", "cores", "MB", "load"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
    for contender in contenders(options.peers):
        if options.only not in contender.name:
            continue
        try:
            await measure(contender, clips, [int(count) for count in options.streams.split(",")])
        except (RuntimeError, TimeoutError, aiohttp.ClientError, psutil.Error) as error:
            print(f"| {contender.name} | {type(error).__name__}: {error} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
