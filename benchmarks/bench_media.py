"""What compressed audio costs: live streams by format beside PyAV in threads and ffmpeg as a child, files, bombs."""

from __future__ import annotations

import argparse
import gc
import io
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

import av
import psutil

from streamer.media.containers import demuxer_for
from streamer.media.decoder import MediaDecoder
from streamer.media.formats import Container, MediaFormat
from streamer.media.packets import Track
from tests.media.material import FILES, flac_of_silence, ogg_opus, read

NAMES = (
    "opus_smallpages.ogg",
    "opus.ogg",
    "mediarecorder.webm",
    "opus_frag.mp4",
    "live.flac",
    "vbr_id3.mp3",
    "aac.aac",
    "aac_frag.mp4",
    "nb.amr",
    "mulaw.wav",
)
AUTO = MediaFormat(Container.AUTO)


class Cost(NamedTuple):
    """Of one stream of many."""

    cpu_ms_per_s: float
    delay_ms: float
    memory_kb: float


def pieces(data: bytes, seconds: float, message_ms: int) -> list[bytes]:
    size = max(1, round(len(data) * message_ms / 1000 / seconds))
    return [data[at : at + size] for at in range(0, len(data), size)]


def ours(data: bytes, seconds: float, streams: int, message_ms: int) -> Cost:
    """Streams interleaved, a message each in turn, as a loop has them."""
    cut = pieces(data, seconds, message_ms)
    gc.collect()
    before = psutil.Process().memory_info().rss
    decoders = [MediaDecoder(AUTO) for _ in range(streams)]
    arrived = arrivals(data)
    held, memory, began = 0.0, 0, time.process_time()
    given = sent = 0
    for index, piece in enumerate(cut):
        for decoder in decoders:
            decoder.push(piece)
            while decoder.is_pending:
                made = len(decoder.take())
                if decoder is decoders[0]:
                    given += made
        form = decoders[0].format
        sent += len(piece)
        if form is not None:
            whole = sum(made_s for end, made_s in arrived if end <= sent)
            held += max(0.0, whole - given / (form.frame_bytes * form.sample_rate))
        if index == len(cut) // 2:
            memory = psutil.Process().memory_info().rss - before
    cpu = time.process_time() - began
    return Cost(cpu * 1000 / (streams * seconds), held / len(cut) * 1000, memory / streams / 1024)


def arrivals(data: bytes) -> list[tuple[int, float]]:
    """Of each packet, the byte of the file at which it is here as a whole, and its seconds."""
    demuxer, found, at, rate = demuxer_for(AUTO), list[tuple[int, float]](), 0, 0
    for item in (*demuxer.push(data), *demuxer.finish()):
        if isinstance(item, Track):
            rate = item.sample_rate
            found.append((0, -item.skip / rate))
        elif item.samples:
            at = max(at, data.find(item.data[:64], at))
            found.append((at + len(item.data), (item.samples - item.trim) / rate))
    return found


class Fed(io.RawIOBase):
    """A file that blocks until bytes have come."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ended = False
        self._changed = threading.Condition()

    def feed(self, data: bytes | None) -> None:
        with self._changed:
            self._data += data or b""
            self._ended |= data is None
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait until everything has been read."""
        with self._changed:
            self._changed.wait_for(lambda: not self._data, timeout=1.0)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._data or self._ended)
            taken = bytes(self._data[:size])
            del self._data[:size]
            self._changed.notify_all()
            return taken


def threads(data: bytes, seconds: float, streams: int, message_ms: int) -> Cost:
    """PyAV's container reads a file that blocks, in a thread for each stream."""
    made_s = dict[Fed, float]()

    def decode(file: Fed) -> None:
        made_s[file] = 0.0
        with av.open(file) as container:
            for frame in container.decode(audio=0):
                frame.to_ndarray()
                made_s[file] += frame.samples / frame.sample_rate

    arrived, sent, held = arrivals(data), 0, 0.0
    files = [Fed() for _ in range(streams)]
    workers = [threading.Thread(target=decode, args=(file,)) for file in files]
    before = psutil.Process().memory_info().rss
    began = time.process_time()
    for worker in workers:
        worker.start()
    cut = pieces(data, seconds, message_ms)
    memory = 0
    for index, piece in enumerate(cut):
        for file in files:
            file.feed(piece)
        for file in files:
            file.wait()
        sent += len(piece)
        whole = sum(seconds_of_it for end, seconds_of_it in arrived if end <= sent)
        held += max(0.0, whole - made_s.get(files[0], 0.0))
        if index == len(cut) // 2:
            memory = psutil.Process().memory_info().rss - before
    for file in files:
        file.feed(None)
    for worker in workers:
        worker.join()
    cpu = time.process_time() - began
    return Cost(cpu * 1000 / (streams * seconds), held / len(cut) * 1000, memory / streams / 1024)


def child(name: str, seconds: float, message_ms: int) -> Cost:
    """An ffmpeg process for each stream; one is measured, fed four times as fast as in real time."""
    data = read(name)
    before = psutil.Process().cpu_times()
    ffmpeg = ["ffmpeg", "-v", "error", "-i", "-", "-f", "s16le", "-ac", "1", "-ar", "16000", "-flush_packets", "1", "-"]
    arrived, sent, held, memory = arrivals(data), 0, 0.0, 0
    with subprocess.Popen(ffmpeg, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        made = [0]

        def read_samples(out: IO[bytes]) -> None:
            while data := os.read(out.fileno(), 65_536):
                made[0] += len(data)

        reader = threading.Thread(target=read_samples, args=(process.stdout,))
        reader.start()
        cut = pieces(data, seconds, message_ms)
        for index, piece in enumerate(cut):
            process.stdin.write(piece)
            process.stdin.flush()
            time.sleep(message_ms / 4_000)
            sent += len(piece)
            whole = sum(seconds_of_it for end, seconds_of_it in arrived if end <= sent)
            held += max(0.0, whole - made[0] / 32_000)
            if index == len(cut) // 2:
                memory = psutil.Process(process.pid).memory_full_info().uss
        process.stdin.close()
        reader.join()
    after = psutil.Process().cpu_times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(cpu * 1000 / seconds, held / len(cut) * 1000, memory / 1024)


def apart(measure: Callable[..., Cost], *arguments: object) -> Cost:
    """Measure in a process of its own, whose memory nothing before has used."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as process:
        return process.submit(measure, *arguments).result()


def show(label: str, cost: Cost) -> None:
    print(f"{label:<34}{cost.cpu_ms_per_s:>12.2f}{cost.delay_ms:>12.0f}{cost.memory_kb:>12.0f}")


def live(streams: int) -> None:
    print(f"{streams} live streams interleaved, in one thread")
    print(f"{'file':<34}{'CPU ms/s':>12}{'delay ms':>12}{'kB/stream':>12}")
    for name in NAMES:
        seconds = FILES[name].frames / FILES[name].rate
        for message_ms in (20, 100):
            show(f"{name}, {message_ms} ms", apart(ours, read(name), seconds, streams, message_ms))
        if "wav" in name or "smallpages" in name:
            continue
        for message_ms in (20, 100):
            cost = apart(threads, read(name), seconds, streams, message_ms)
            show(f"  PyAV container in a thread, {message_ms} ms", cost)
        if shutil.which("ffmpeg"):
            show("  ffmpeg child, 100 ms", child(name, seconds, 100))


def looped(name: str, hours: float) -> Path | None:
    """A file as long as that, by ffmpeg; None without it."""
    if not shutil.which("ffmpeg"):
        return None
    kind = {
        "mp3": ["-c:a", "libmp3lame", "-b:a", "128k"],
        "m4a": ["-c:a", "aac", "-b:a", "96k"],
        "ogg": ["-c:a", "libopus", "-b:a", "24k"],
    }
    path = Path(f"/tmp/streamer-bench-{hours:g}h.{name}")
    if not path.exists():
        source = "src/streamer/samples/weather.wav"
        command = ["ffmpeg", "-v", "error", "-stream_loop", "-1", "-i", source, "-t", str(3600 * hours)]
        subprocess.run([*command, "-ar", "44100" if name != "ogg" else "48000", *kind[name], str(path)], check=True)
    return path


def whole(hours: float) -> None:
    print(f"\nwhole files of {hours:g} h, 64 KiB at a time")
    print(f"{'file':<12}{'MB':>8}{'x real time':>14}{'RSS MB':>10}")
    for name in ("mp3", "m4a", "ogg"):
        path = looped(name, hours)
        if path is None:
            print("skipped: ffmpeg is not installed")
            return
        before = psutil.Process().memory_info().rss
        began, peak = time.process_time(), 0
        with path.open("rb") as file, tempfile.TemporaryFile() as spool:
            decoder = MediaDecoder(AUTO, spool=spool)
            while data := file.read(65_536):
                decoder.push(data)
                drain(decoder)
                peak = max(peak, psutil.Process().memory_info().rss)
            decoder.finish()
            drain(decoder)
        cpu = time.process_time() - began
        print(f"{name:<12}{path.stat().st_size / 1e6:>8.1f}{3600 * hours / cpu:>14.0f}{(peak - before) / 2**20:>10.1f}")


def drain(decoder: MediaDecoder) -> None:
    while decoder.is_pending:
        decoder.take()


def bombs() -> None:
    print("\nwhat few bytes ask for, until they are refused")
    print(f"{'bomb':<40}{'bytes':>9}{'CPU ms':>9}{'longest step ms':>17}  error")
    kinds: dict[str, Callable[[], bytes]] = {
        "FLAC, 20 minutes by 8 channels": lambda: flac_of_silence(300),
        "FLAC, 20 minutes, mono": lambda: flac_of_silence(300, channels=1),
        "Ogg Opus, empty packets of 120 ms": lambda: ogg_opus(bytes([11 << 3 | 3, 2]), 20),
        "Ogg Opus, stereo, 48 frames a packet": lambda: ogg_opus(bytes([28 << 3 | 4 | 3, 48]), 20, 2),
    }
    for name, make in kinds.items():
        data = make()
        decoder, error, slowest = MediaDecoder(AUTO), "", 0.0
        decoder.push(data)
        began = time.process_time()
        try:
            while decoder.is_pending:
                step = time.process_time()
                decoder.take(0.25)
                slowest = max(slowest, time.process_time() - step)
        except Exception as refused:  # noqa: BLE001 (it is what is shown)
            error = str(refused)
        cpu = time.process_time() - began
        print(f"{name:<40}{len(data):>9}{cpu * 1000:>9.0f}{slowest * 1000:>17.2f}  {error}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--hours", type=float, default=1.0)
    arguments = parser.parse_args()
    live(arguments.streams)
    whole(arguments.hours)
    bombs()


if __name__ == "__main__":
    main()
