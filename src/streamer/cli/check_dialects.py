"""`streamer check --dialects URL`: tries the protocols of other services on a running server."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, replace
from importlib.resources import as_file
from typing import TYPE_CHECKING

import typer

from streamer.errors import StreamerError

if TYPE_CHECKING:
    from rich.console import Console

    from streamer.cli.dialect_probes import ProbeTarget

TIMEOUT_S = 60.0
"""Time in seconds for each attempt."""
_NATIVE = ("v1", "v2")


@dataclass(frozen=True, slots=True)
class Attempt:
    """Result of one attempt. `tried`: empty if no attempt was made. `problem`: empty if it works."""

    dialect: str
    tried: str
    transcript: str = ""
    problem: str = ""


async def attempts(url: str, token: str | None) -> AsyncIterator[Attempt]:
    """Yield what comes of each attempt, in the order of the server's protocols.

    Raises StreamerError if the server, or its native protocol, does not answer.
    """
    import aiohttp
    import numpy as np
    import soxr

    from streamer.audio.encode import encode
    from streamer.audio.files import read_audio
    from streamer.audio.format import Encoding
    from streamer.cli import dialect_probes as probes
    from streamer.samples import sample

    with as_file(sample()) as path:
        recording, wav = read_audio(path), path.read_bytes()
    speech = soxr.resample(recording.samples[0], recording.sample_rate, probes.RATE)
    faster = soxr.resample(recording.samples[0], recording.sample_rate, probes.REALTIME_RATE)
    pcm, realtime_pcm = (encode(Encoding.PCM_S16LE, np.asarray(x, np.float32)[None]) for x in (speech, faster))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        target = probes.ProbeTarget(session, url, token, pcm, realtime_pcm, wav)
        names, ports = await _served(target)
        target = replace(target, ports=ports)
        expected = await _attempted(probes.native(target))
        if isinstance(expected, StreamerError):
            raise expected
        yield Attempt("v2", "file", expected)
        for name in names:
            if name not in _NATIVE and not probes.probes_of(name, target):
                yield Attempt(name, "")
            for tried, probe in probes.probes_of(name, target).items():
                found = await _attempted(probe(target))
                if isinstance(found, StreamerError):
                    yield Attempt(name, tried, problem=found.message)
                elif _words(found) != _words(expected):
                    yield Attempt(name, tried, found, "expected the words of v2")
                else:
                    yield Attempt(name, tried, found)


async def _served(target: ProbeTarget) -> tuple[list[str], dict[str, int]]:
    """Return the names of the protocols that a server announces, and the ports of those that have their own."""
    import aiohttp

    try:
        async with target.session.get(f"{target.url}/api/v2/info", headers=target.authorization()) as response:
            text = await response.text()
        if response.status != 200:
            raise StreamerError(f"{target.url}: expected the server's information, got {response.status}: {text[:200]}")
        info = json.loads(text)
        names, ports = info["dialects"], info.get("ports", {})
        return [str(name) for name in names], {str(name): int(port) for name, port in ports.items()}
    except (aiohttp.ClientError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise StreamerError(f"{target.url}: expected a Streamer server, got {type(error).__name__}: {error}") from None


async def _attempted(attempt: Awaitable[str]) -> str | StreamerError:
    """Return the transcript of an attempt, or its error."""
    import aiohttp

    try:
        async with asyncio.timeout(TIMEOUT_S):
            return " ".join((await attempt).split())
    except StreamerError as error:
        return error
    except TimeoutError:
        return StreamerError(f"expected a transcript within {TIMEOUT_S:g} s")
    except (aiohttp.ClientError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        return StreamerError(f"expected a transcript, got {type(error).__name__}: {error}")


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def check_dialects(url: str, token: str | None, console: Console) -> bool:
    """Print a table of all attempts; return whether all of them work. Raises StreamerError."""
    from rich.table import Table
    from rich.text import Text

    base = re.sub(r"^ws", "http", url if "://" in url else f"http://{url}").rstrip("/")

    async def collect() -> list[Attempt]:
        return [attempt async for attempt in attempts(base, token)]

    with console.status(f"trying the protocols that {base} serves"):
        done = asyncio.run(collect())
    table = Table("protocol", "tried", "", "transcript, or what is wrong", box=None, header_style="dim")
    for attempt in done:
        state = Text("fails", "red") if attempt.problem else Text("works", "green")
        if not attempt.tried:
            state = Text("not tried", "yellow")
        table.add_row(
            attempt.dialect, attempt.tried, state, Text(": ".join(filter(None, (attempt.problem, attempt.transcript))))
        )
    console.print(table)
    if len(done) == 1:
        console.print(
            "No protocols of other services are served. They need a model that returns transcripts (see --dialects)."
        )
    return not any(attempt.problem for attempt in done)


def run(url: str, token: str | None) -> None:
    """Check a server, and exit: 1 if an attempt fails, 2 if the server does not answer."""
    from rich.console import Console

    from streamer.cli.refusal import print_error

    try:
        if not check_dialects(url, token, Console()):
            raise typer.Exit(1)
    except StreamerError as error:
        print_error(error)
        raise typer.Exit(2) from None
