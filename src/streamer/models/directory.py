"""Finding a model's files in a directory its user gives, and saying plainly what is missing."""

from __future__ import annotations

from pathlib import Path

from streamer.errors import ConfigError, ModelLoadError


def existing(key: str, directory: Path | None) -> Path:
    """`directory`, if it is one. Raises ConfigError naming the setting."""
    if directory is None or not directory.is_dir():
        got = None if directory is None else str(directory)
        raise ConfigError(field=f"model.{key}", expected="a directory with the model's files", got=got)
    return directory


def find(directory: Path, *patterns: str) -> Path | None:
    """The first file that matches, the patterns in order of preference; among equals the shortest name."""
    for pattern in patterns:
        matches = sorted(directory.glob(pattern), key=lambda path: (len(path.name), path.name))
        if matches:
            return matches[0]
    return None


def need(directory: Path, what: str, *patterns: str) -> str:
    """The path of a file that must be there. Raises ModelLoadError naming what was looked for and what is there."""
    found = find(directory, *patterns)
    if found is None:
        there = ", ".join(sorted(path.name for path in directory.iterdir())[:20]) or "nothing"
        raise ModelLoadError(f"no {what} ({' or '.join(patterns)}) in {directory}; there is: {there}")
    return str(found)


def missing_package(package: str, extra: str) -> ModelLoadError:
    """What to say where an extra is not installed."""
    return ModelLoadError(f"{package} is not installed: pip install 'streamer[{extra}]'")
