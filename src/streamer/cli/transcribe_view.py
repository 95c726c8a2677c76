"""Progress of a transcription: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic


@contextmanager
def progress_of(files: Sequence[Path]) -> Iterator[Callable[[Path, float], None]]:
    """Show the seconds of these files that are done, and the speed as a multiple of real time."""
    if not sys.stderr.isatty():
        yield _nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    lengths = {path: _seconds(path) for path in files}
    done = dict.fromkeys(files, 0.0)
    columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), "{task.fields[speed]}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{len(files)} files", total=sum(lengths.values()) or None, speed="")
        started_at = monotonic()

        def report(path: Path, seconds: float) -> None:
            done[path] = max(done[path], seconds)
            total = sum(done.values())
            bar.update(task, completed=total, speed=f"{total / max(0.001, monotonic() - started_at):.0f} x real time")

        yield report


def _nothing(_path: Path, _seconds: float) -> None:
    """Show nothing."""


def _seconds(path: Path) -> float:
    """Return the length in the header of a file; 0 if it cannot be read, which the reader reports later."""
    import soundfile

    try:
        return float(soundfile.info(str(path)).duration)
    except (soundfile.SoundFileError, OSError):
        return 0.0
