"""`streamer serve --dev`: the server as a child process, restarted when a file beside the model's changes."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from streamer.config import LoadedSettings
from streamer.errors import ConfigError, install_command
from streamer.models.loading import BUILT_IN

if TYPE_CHECKING:
    from watchfiles import Change

_SETTINGS = ("log.format=text", "drain.lag_s=0", "drain.soft_s=0.5", "drain.hard_s=1", "drain.spread_s=0")
"""Settings of the child: readable tracebacks, and no streams that keep the old code alive."""


def serve_and_reload(loaded: LoadedSettings) -> None:
    """Run this command without `--dev` until Ctrl-C; start it anew after each change. Raises ConfigError."""
    try:
        from watchfiles import PythonFilter, run_process
    except ModuleNotFoundError as error:
        raise ConfigError(f"--dev needs watchfiles: {install_command('reload')} ({error})") from None
    folders = folders_of(loaded)
    arguments = [argument for argument in sys.argv[1:] if argument != "--dev"]
    settings = [word for setting in _SETTINGS for word in ("--set", setting)]
    places = ", ".join(map(str, folders))
    typer.secho(f"restarting when a Python file in {places} changes", dim=True, err=True)
    run_process(
        *folders,
        target=shlex.join([sys.executable, "-m", "streamer", *arguments, *settings]),
        target_type="command",
        watch_filter=PythonFilter(),
        callback=_tell,
        debounce=400,
        recursive=False,
    )


def folders_of(loaded: LoadedSettings) -> list[Path]:
    """Return the folders of the models that are the user's own. Raises ConfigError if none is."""
    settings = loaded.settings
    if not settings.models:
        return [model_file(settings.server.model).parent]
    own = [section.model for section in settings.models.values() if section.model.partition(":")[0] not in BUILT_IN]
    return sorted({model_file(spec).parent for spec in own or [next(iter(settings.models.values())).model]})


def model_file(spec: str) -> Path:
    """Return the file of a model, without importing it. Raises ConfigError for a built-in or missing one."""
    place = spec.rpartition(":")[0]
    path = None
    if place.endswith(".py"):
        path = Path(place).expanduser().resolve()
    elif place and spec not in BUILT_IN:
        sys.path.insert(0, str(Path.cwd()))
        found = importlib.util.find_spec(place)
        path = Path(found.origin) if found is not None and found.origin else None
    if path is None or not path.is_file():
        raise ConfigError(
            field="--dev", expected="your own model: package.module:name or path/to/file.py:name", got=spec
        )
    return path


def _tell(changes: Set[tuple[Change, str]]) -> None:
    names = ", ".join(sorted({Path(path).name for _, path in changes}))
    typer.secho(f"{names} changed: restarting", fg="cyan", err=True)
