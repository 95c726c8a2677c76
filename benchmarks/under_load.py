"""Does a second user ruin the first? Real servers, real sockets: `python -m benchmarks.under_load SCENE`.

batching    50 live clients on a model of 20 ms a call and 1 ms an item, one by one and in batches
neighbours  pocketsphinx in two processes: one client, then eight more beside it
kill        a worker killed, then one hung, in the middle of 50 live sessions
flood       an hour of audio as fast as possible beside 20 live clients
overload    twice as many clients as the model can serve, for minutes
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import time
from collections import Counter
from contextlib import suppress

import psutil

from benchmarks.crowd import Account, percentiles, speak
from streamer.cli.server_subprocess import ServerSubprocess, run_server

PRICED = "benchmarks/timed_model.py:Priced"
BY_PROCESS = "benchmarks/timed_model.py:ByProcess"


def workers(server: psutil.Process) -> list[psutil.Process]:
    """Its model workers, not the helpers of multiprocessing."""
    found = []
    for child in server.children():
        with suppress(psutil.Error):  # one that was killed is a zombie for a moment
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def ws(server: ServerSubprocess, mode: str) -> str:
    return server.address.replace("http", "ws") + f"/api/v2/{mode}"


async def batching(options: argparse.Namespace) -> None:
    for model in (PRICED, BY_PROCESS):
        for size in (1, 16):
            arguments = [model, "--set", f"model.max_batch_size={size}", "--set", "model.workers=1"]
            async with run_server(*arguments) as child:
                crowd = [speak(ws(child, "simple"), 20, offset=i * 0.13, chunk_s=0.5, chunk_ms=500) for i in range(50)]
                accounts = await asyncio.gather(*crowd)
            answers = [latency for account in accounts for _, latency in account.latencies]
            whole = sum(account.closes for account in accounts)
            print(f"{model.split(':')[1]:10} batches of {size:2}: {percentiles(answers)}, {whole} of 50 accounts close")


async def neighbours(options: argparse.Namespace) -> None:
    async with run_server("pocketsphinx", "--set", "model.workers=2") as child:
        url = ws(child, "segmented")
        first = Account()
        began = time.monotonic()
        alone, together = 35.0, 70.0
        speaking = asyncio.create_task(speak(url, together, account=first))
        await asyncio.sleep(alone)
        others = await asyncio.gather(*(speak(url, together - alone, offset=1 + i * 0.8) for i in range(8)))
        await speaking
    before, after = first.between(0, began + alone), first.between(began + alone, began + 1e9)
    for name, latencies in (("alone", before), ("beside eight others", after)):
        print(f"first client {name:20}: median {statistics.median(latencies):6.0f} ms, {percentiles(latencies)}")
    print(f"the others: {percentiles([latency for other in others for _, latency in other.latencies])}")


async def kill(options: argparse.Namespace) -> None:
    async with run_server(BY_PROCESS) as child:
        server = psutil.Process(child.pid)
        files = server.num_fds()
        for name in ("kill -9", "hang"):
            crowd = [
                asyncio.create_task(speak(ws(child, "simple"), 12, offset=i * 0.2, chunk_s=0.25, chunk_ms=250))
                for i in range(50)
            ]
            await asyncio.sleep(5)
            known = {child.pid for child in workers(server)}
            began = time.monotonic()
            if name == "hang":
                crowd.append(asyncio.create_task(speak(ws(child, "simple"), 0.25, options={"hang": True})))
            else:
                os.kill(min(known), signal.SIGKILL)
            while not (fresh := {child.pid for child in workers(server)} - known):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            back = time.monotonic() - began
            accounts = await asyncio.gather(*crowd)
            errors: Counter[str] = sum((account.errors for account in accounts), Counter())
            touched = sum(bool(account.errors) for account in accounts)
            print(f"{name}: a new worker ({fresh.pop()}) was started after {back:.2f} s; errors {dict(errors)}")
            print(f"  in {touched} of {len(accounts)} sessions; {sum(a.closes for a in accounts)} accounts close")
            print(f"  {percentiles([latency for account in accounts for _, latency in account.latencies])}")
        await asyncio.sleep(1)
        print(f"descriptors {files} before, {server.num_fds()} after; workers {len(workers(server))}")


async def flood(options: argparse.Namespace) -> None:
    async with run_server("stub") as child:
        server, url = psutil.Process(child.pid), ws(child, "segmented")
        live = [Account() for _ in range(20)]
        seconds = options.seconds
        crowd = [
            asyncio.create_task(speak(url, seconds, offset=i * 0.33, account=account)) for i, account in enumerate(live)
        ]
        watching = asyncio.create_task(_peak(server))
        await asyncio.sleep(seconds / 4)
        began = time.monotonic()
        before = server.memory_info().rss
        file = await speak(url, 3_600, speed=0)
        ended = time.monotonic()
        await asyncio.gather(*crowd)
        watching.cancel()
        spans = {"before": (0.0, began), "during": (began, ended), "after": (ended, 1e12)}
        for name, (start, end) in spans.items():
            print(f"live, {name:6}: {percentiles([x for account in live for x in account.between(start, end)])}")
        print(f"the file: {3_600 / (ended - began):.0f} times real time, closes: {file.closes} {file.closed}")
        print(f"resident: {before / 2**20:.0f} MiB before, {_peaks[0] / 2**20:.0f} MiB at most")


_peaks = [0.0]


async def _peak(server: psutil.Process) -> None:
    while True:
        _peaks[0] = max(_peaks[0], server.memory_info().rss)
        await asyncio.sleep(0.2)


async def overload(options: argparse.Namespace) -> None:
    """One item a call: 47 calls a second. Clients ask for four a second each; new ones keep coming."""
    arguments = [PRICED, "--set", "model.max_batch_size=1", "--set", "engine.max_pending_seconds=20"]
    async with run_server(*arguments) as child:
        server, accounts, sizes = psutil.Process(child.pid), [], []
        async with asyncio.TaskGroup() as tasks:
            until = time.monotonic() + options.seconds
            while time.monotonic() < until:
                account = Account()
                accounts.append(account)
                url = ws(child, "simple")
                tasks.create_task(
                    speak(url, 20, offset=len(accounts) * 0.4, chunk_s=0.25, chunk_ms=250, account=account)
                )
                sizes.append(server.memory_info().rss / 2**20)
                await asyncio.sleep(20 / 24)  # 24 at a time: 96 pieces a second, twice what the model can
        taken = [account for account in accounts if not account.refused]
        print(f"{len(accounts)} came, {len(accounts) - len(taken)} refused with a hint when to come back")
        print(f"{sum(account.closes for account in taken)} of {len(taken)} accepted accounts close")
        answers = [latency for account in taken for _, latency in account.latencies]
        third = len(sizes) // 3
        print(percentiles(answers), f"errors {dict(sum((a.errors for a in taken), Counter()))}")
        print(f"resident: {statistics.mean(sizes[third : 2 * third]):.0f} MiB in the middle third, ", end="")
        print(f"{statistics.mean(sizes[2 * third :]):.0f} in the last, {max(sizes):.0f} at most")


SCENES = {scene.__name__: scene for scene in (batching, neighbours, kill, flood, overload)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", choices=SCENES)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of flood's live streams, of overload")
    options = parser.parse_args()
    asyncio.run(SCENES[options.scene](options))


if __name__ == "__main__":
    main()
