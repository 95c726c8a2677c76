"""`streamer top`: a live view of a running server, from its /metrics."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from urllib.error import HTTPError

    from streamer.telemetry.scrape import Overview, Scrape

URL = "http://localhost:8080"
TIMEOUT_S = 5.0
_MAX_REFUSAL_BYTES = 4_096


def top(
    url: Annotated[str, typer.Argument(help="Address of the server, whose /metrics is read.", metavar="URL")] = URL,
    interval: Annotated[float, typer.Option(help="Seconds between two updates.", min=0.2, max=60.0)] = 2.0,
    token: Annotated[
        str | None, typer.Option(help="Key or token, if the metrics require one.", envvar="STREAMER_TOKEN")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one update and exit.")] = False,
) -> None:
    """Show the sessions, audio, real-time factors, latencies and workers of a running server. Ctrl-C stops it.

    All figures cover the time between two updates. Exit code 1: the server or its metrics cannot be reached.
    """
    from rich.console import Console
    from rich.live import Live

    from streamer.cli.top_view import screen
    from streamer.telemetry.scrape import ScrapeDelta

    console = Console()
    before = _scrape(url, token)
    if once:
        console.print(screen(url, _after(before, url, token, interval)))
        return
    try:
        with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                now = _scrape(url, token)
                live.update(screen(url, ScrapeDelta(before, now).overview()), refresh=True)
                before = now
    except KeyboardInterrupt:
        return


def _after(before: Scrape, url: str, token: str | None, interval: float) -> Overview:
    from streamer.telemetry.scrape import ScrapeDelta

    time.sleep(interval)
    return ScrapeDelta(before, _scrape(url, token)).overview()


def _scrape(url: str, token: str | None) -> Scrape:
    """Scrape the server; exit with one line if that fails."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    from streamer.telemetry.scrape import Scrape

    address = f"{url.rstrip('/').removesuffix('/metrics')}/metrics"
    if not address.startswith(("http://", "https://")):
        typer.echo(f"error: url: expected http://HOST:PORT, got {url!r}", err=True)
        raise typer.Exit(2)
    try:
        request = Request(address, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310
        with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 (http and https only)
            text = answer.read().decode()
        return Scrape.parse(text, time.monotonic())
    except HTTPError as error:
        typer.echo(f"error: {address}: {_reason(error)}", err=True)
    except (URLError, HTTPException, OSError) as error:
        typer.echo(f"error: {address}: {getattr(error, 'reason', error)}", err=True)
    except ValueError:
        typer.echo(f"error: {address}: expected metrics in the Prometheus text format", err=True)
    raise typer.Exit(1)


def _reason(error: HTTPError) -> str:
    """Return the server's reason of a refusal, if it is a Streamer."""
    import msgspec

    from streamer.errors import brief

    with error:
        try:
            answer = msgspec.json.decode(error.read(_MAX_REFUSAL_BYTES))
        except (msgspec.DecodeError, OSError):
            answer = None
    message = answer.get("message") if isinstance(answer, dict) else None
    return brief(message, 400).strip("'\"") if isinstance(message, str) else f"{error.code} {error.reason}"
