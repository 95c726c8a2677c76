"""10 000 connections that say nothing, and their return all at once: `python -m benchmarks.idle --connections 10000`.

The server is a process of its own, so are the clients, and so is the one live stream whose latency is looked at.
Clients come from several addresses of the loopback, as one has not ports enough.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import Mapping, Sequence

import psutil

from streamer.client import Segment, connect
from streamer.supervision.single_process import loop_factory
from streamer.testing import s16le, speech
from tests.faults.arena import reset
from tests.faults.served import ServerProcess, served

RATE = 16_000
PER_ADDRESS = 20_000
WEATHER = s16le(speech())
UPGRADE = (
    b"GET /api/v2/simple HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
RETRY_AT_MOST_S = 1.0
"""A refused client waits up to this, at random: less than a real one, and so harder on the server."""


class Crowd:
    """Clients that connect and say nothing. Sockets and an upgrade, no library: what is measured is the server."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._count = count
        self._sockets: list[socket.socket] = []
        self.outcomes: Counter[str] = Counter()

    async def come(self, at_once: int) -> float:
        """All connect, so many at a time; seconds until the last one is in."""
        gate = asyncio.Semaphore(at_once)
        began = time.monotonic()

        async def one(number: int) -> None:
            async with gate:
                while not await self._enter(number):  # noqa: ASYNC110 (the network's own)
                    await asyncio.sleep(RETRY_AT_MOST_S * (number % 97) / 97)

        await asyncio.gather(*(one(number) for number in range(self._count)))
        return time.monotonic() - began

    def go(self) -> None:
        """All are cut off at once."""
        for one in self._sockets:
            reset(one)
        self._sockets.clear()

    async def _enter(self, number: int) -> bool:
        address = f"127.0.0.{2 + number // PER_ADDRESS}"
        loop = asyncio.get_running_loop()
        one = socket.socket()
        one.setblocking(False)
        try:
            one.bind((address, 0))
            await loop.sock_connect(one, ("127.0.0.1", self._port))
            await loop.sock_sendall(one, UPGRADE)
            answer = await loop.sock_recv(one, 4_096)
        except OSError as error:
            answer = b"HTTP/1.1 " + type(error).__name__.encode()
        status = answer.split()[1].decode() if answer else "dropped"
        self.outcomes[status] += 1
        if status != "101":
            one.close()
            return False
        self._sockets.append(one)
        return True


async def crowd(port: int, count: int) -> None:
    """The process of the clients: does what is said on stdin, answers on stdout."""
    clients = Crowd(port, count)
    for line in sys.stdin:
        clients.outcomes.clear()
        match line.strip():
            case "come":
                took_s = await clients.come(200)
            case "return":
                clients.go()
                took_s = await clients.come(count)
            case _:
                return
        print(f"{took_s:.2f} s, {dict(clients.outcomes)}", flush=True)


async def live(url: str) -> None:
    """The process of one live stream: the milliseconds from an utterance's last audio to its final, one a line.

    That is when the audio was due, not when it could be sent; the silence that ends speech (600 ms) is part of it.
    """
    size = RATE // 10 * 2
    async with connect(f"{url}/api/v2/segmented", sample_rate=RATE) as stream:
        began = time.monotonic()

        async def talk() -> None:
            due = began
            while True:
                for at in range(0, len(WEATHER), size):
                    piece = WEATHER[at : at + size]
                    await stream.send(piece)
                    due += len(piece) / 2 / RATE
                    await asyncio.sleep(max(0.0, due - time.monotonic()))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(talk())
            async for event in stream:
                if isinstance(event, Segment):
                    print(f"{1_000 * (time.monotonic() - began - event.end_time):.1f}", flush=True)


async def measure(count: int, rest_s: float) -> None:
    settings = {
        "server.max_sessions": count + 10,
        "limits.start_timeout_s": 86_400,
        "limits.idle_timeout_s": 86_400,
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    async with served("stub", *words) as server:
        port = server.url.rsplit(":", 1)[1]
        me = (sys.executable, "-m", "benchmarks.idle")
        clients = await asyncio.create_subprocess_exec(
            *me, "--crowd", port, "--connections", str(count), stdin=PIPE, stdout=PIPE
        )
        speaker = await asyncio.create_subprocess_exec(*me, "--live", server.url, stdin=DEVNULL, stdout=PIPE)
        try:
            await look(server, clients, speaker, count, rest_s)
        finally:
            for process in (clients, speaker):
                process.kill()
                await process.wait()


async def look(
    server: ServerProcess,
    clients: asyncio.subprocess.Process,
    speaker: asyncio.subprocess.Process,
    count: int,
    rest_s: float,
) -> None:
    process = psutil.Process(server.process.pid)
    latencies: list[tuple[float, float]] = []
    watching = asyncio.create_task(watch(speaker, latencies))

    async def say(word: str) -> str:
        assert clients.stdin is not None
        assert clients.stdout is not None
        clients.stdin.write(f"{word}\n".encode())
        return (await clients.stdout.readline()).decode().strip()

    await asyncio.sleep(8.0)
    alone, before = await cpu_share(process, rest_s), process.memory_info().rss
    print(f"one live stream alone: {alone:.1%} of a core, {before / 2**20:.0f} MiB", flush=True)
    told("its latency", latencies, 0.0)
    spent = cpu_s(process)
    came = await say("come")
    print(f"{count} connect, 200 at a time: {came}, {cpu_s(process) - spent:.1f} s of CPU", flush=True)
    await asyncio.sleep(3.0)
    grown = process.memory_info().rss - before
    print(f"memory: {grown / 2**20:.0f} MiB more, {grown / count / 1024:.1f} KiB a connection", flush=True)
    began = time.monotonic()
    share = await cpu_share(process, rest_s)
    print(f"at rest for {rest_s:g} s: {share:.1%} of a core with the live stream", flush=True)
    told("its latency meanwhile", latencies, began)
    began, spent = time.monotonic(), cpu_s(process)
    came = await say("return")
    print(f"all are cut off and come back at once: {came}, {cpu_s(process) - spent:.1f} s of CPU", flush=True)
    await asyncio.sleep(8.0)
    told("the live stream's latency meanwhile", latencies, began)
    print(f"memory: {(process.memory_info().rss - before) / 2**20:.0f} MiB more than before all", flush=True)
    metrics = await server.metrics()
    print(f"the event loop's worst delay: up to {worst_lag_s(metrics):g} s", flush=True)
    watching.cancel()


def worst_lag_s(metrics: Mapping[str, float]) -> float:
    """The upper bound of the fullest-reaching bucket that the loop's lag came to."""
    name = "streamer_event_loop_lag_seconds"
    bounds = {float(key.split('"')[1]): value for key, value in metrics.items() if key.startswith(f"{name}_bucket")}
    return min(bound for bound, value in bounds.items() if value == metrics[f"{name}_count"])


async def watch(speaker: asyncio.subprocess.Process, latencies: list[tuple[float, float]]) -> None:
    assert speaker.stdout is not None
    async for line in speaker.stdout:
        latencies.append((time.monotonic(), float(line)))  # noqa: PERF401 (read while it grows)


def told(what: str, latencies: Sequence[tuple[float, float]], since: float) -> None:
    heard = sorted(latency for at, latency in latencies if at >= since)
    if heard:
        print(
            f"{what}: {len(heard)} finals, middle {heard[len(heard) // 2]:.0f} ms, most {heard[-1]:.0f} ms", flush=True
        )


async def cpu_share(process: psutil.Process, seconds: float) -> float:
    """Of one core."""
    before = cpu_s(process)
    await asyncio.sleep(seconds)
    return (cpu_s(process) - before) / seconds


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rest", type=float, default=20.0, help="seconds to look at the CPU at rest")
    parser.add_argument("--crowd", type=int, help=argparse.SUPPRESS, metavar="PORT")
    parser.add_argument("--live", help=argparse.SUPPRESS, metavar="URL")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if options.crowd:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:  # its own delays look like ours
            runner.run(crowd(options.crowd, options.connections))
    elif options.live:
        asyncio.run(live(options.live))
    else:
        asyncio.run(measure(options.connections, options.rest))


if __name__ == "__main__":
    main()
