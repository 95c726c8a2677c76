"""One tree of settings: every default with its unit, and where each value came from."""

from streamer.config.describe import describe
from streamer.config.settings import (
    DrainSettings,
    LogSettings,
    ServerSettings,
    SessionSection,
    Settings,
)
from streamer.config.sources import Loaded, Override, load

__all__ = [
    "DrainSettings",
    "Loaded",
    "LogSettings",
    "Override",
    "ServerSettings",
    "SessionSection",
    "Settings",
    "describe",
    "load",
]
