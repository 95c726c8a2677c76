"""Recordings that come with the package: what `streamer demo` speaks."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def sample(name: str = "weather.wav") -> Traversable:
    """The recording `name`, wherever the package is installed; `.read_bytes()` gives the file."""
    return files(__package__).joinpath(name)
