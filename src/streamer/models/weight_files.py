"""Lookup of weight files in a directory, with clear errors for missing ones."""

from __future__ import annotations

from pathlib import Path

from streamer.errors import ConfigError, ModelLoadError, install_command


def require_directory(key: str, directory: Path | None) -> Path:
    """Return `directory` if it exists. Raises ConfigError, naming the setting."""
    if directory is None or not directory.is_dir():
        got = None if directory is None else str(directory)
        raise ConfigError(field=f"model.{key}", expected="a directory with the model's files", got=got)
    return directory


def find_file(directory: Path, *patterns: str) -> Path | None:
    """Return the first matching file, with the patterns in order of preference; among several the shortest name."""
    for pattern in patterns:
        matches = sorted(directory.glob(pattern), key=lambda path: (len(path.name), path.name))
        if matches:
            return matches[0]
    return None


def require_file(directory: Path, what: str, *patterns: str) -> str:
    """Return the path of a required file. Raises ModelLoadError, naming the expected patterns and the found files."""
    found = find_file(directory, *patterns)
    if found is None:
        there = ", ".join(sorted(path.name for path in directory.iterdir())[:20]) or "nothing"
        raise ModelLoadError(f"no {what} ({' or '.join(patterns)}) in {directory}; found: {there}")
    return str(found)


def missing_package(package: str, extra: str) -> ModelLoadError:
    """Return the error for an extra that is not installed."""
    return ModelLoadError(f"{package} is not installed: {install_command(extra)}")
