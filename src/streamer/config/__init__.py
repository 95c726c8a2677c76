"""One tree of settings: every default with its unit, and where each value came from."""

from streamer.config.settings import (
    DrainSettings,
    EngineSection,
    LogSettings,
    ServerSettings,
    SessionSection,
    Settings,
)
from streamer.config.sources import Loaded, Override, load

__all__ = [
    "DrainSettings",
    "EngineSection",
    "Loaded",
    "LogSettings",
    "Override",
    "ServerSettings",
    "SessionSection",
    "Settings",
    "load",
]
