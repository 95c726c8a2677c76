"""Download of weights before a server starts: once, by the command itself, with visible progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from streamer.config import LoadedSettings, Settings
    from streamer.models.loading import ModelSpec

RECOGNISER = "moonshine"
"""Default of commands that need a recogniser."""


def load_recogniser(config: Path | None, set_: Sequence[str], model: str | None, *, offline: bool) -> LoadedSettings:
    """Return the settings of a command that needs a recogniser, once its weights are there.

    Raises ConfigError or ModelLoadError.
    """
    from streamer.cli.overrides import overrides
    from streamer.config import load

    loaded = load(config, flags=list(overrides(set_, ("--model", "server.model", model))))
    if loaded.origin("server.model") == "default" and not loaded.settings.models:
        loaded = load(config, flags=list(overrides(set_, ("--model", "server.model", RECOGNISER))))
    fetch_weights(loaded, offline=offline)
    return loaded


def fetch_weights(loaded: LoadedSettings, *, offline: bool = False) -> None:
    """Fetch the weights of the models that the settings name. `offline`: this process and its workers never do.

    Raises ConfigError or ModelLoadError.
    """
    import os

    from streamer.models.loading import fetch
    from streamer.models.weights import OFFLINE

    if offline:
        os.environ[OFFLINE] = "1"
    for spec in specs(loaded.settings).values():
        fetch(spec.spec, spec.parameters)


def specs(settings: Settings) -> dict[str, ModelSpec]:
    """Return the models of the settings by name; the only one has an empty name."""
    from streamer.models.loading import ModelSpec

    if not settings.models:
        return {"": ModelSpec(settings.server.model, settings.model)}
    return {
        name: ModelSpec(section.model, section.parameters, f"models.{name}")
        for name, section in settings.models.items()
    }
