"""Progress of a transcription: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic


@contextmanager
def progress_of(files: Sequence[str]) -> Iterator[Callable[[str, float], None]]:
    """Show the seconds of these files that are done, and the speed as a multiple of real time."""
    if not sys.stderr.isatty():
        yield _nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    lengths = {name: _seconds(name) for name in files}
    done = dict.fromkeys(files, 0.0)
    columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), "{task.fields[speed]}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{len(files)} files", total=sum(lengths.values()) or None, speed="")
        started_at = monotonic()

        def report(name: str, seconds: float) -> None:
            done[name] = max(done[name], seconds)
            total = sum(done.values())
            bar.update(task, completed=total, speed=f"{total / max(0.001, monotonic() - started_at):.0f} x real time")

        yield report


def _nothing(_name: str, _seconds: float) -> None:
    """Show nothing."""


def _seconds(name: str) -> float:
    """Return the length in the header of a file; 0 for a URL, and for a file that cannot be read."""
    import soundfile

    try:
        return float(soundfile.info(name).duration)
    except (soundfile.SoundFileError, OSError):
        return 0.0
