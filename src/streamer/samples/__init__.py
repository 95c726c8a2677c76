"""Recordings of the package, which `streamer demo` uses."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def sample(name: str = "weather.wav") -> Traversable:
    """Return the recording `name`, wherever the package is installed; `.read_bytes()` reads the file."""
    return files(__package__).joinpath(name)
