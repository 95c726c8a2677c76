"""Weights before anything starts: fetched once by the command itself, where a person sees the progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamer.config import Loaded


def fetch_weights(loaded: Loaded, *, offline: bool = False) -> None:
    """Fetch the weights of the model that the settings name. `offline`: this process and its workers never do.

    Raises ConfigError or ModelLoadError.
    """
    import os

    from streamer.models.loading import fetch
    from streamer.models.weights import OFFLINE

    if offline:
        os.environ[OFFLINE] = "1"
    fetch(loaded.settings.server.model, loaded.settings.model)
