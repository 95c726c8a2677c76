"""The settings: every default with its unit, and the source of each value."""

from streamer.config.describe import describe
from streamer.config.settings import (
    AccessSettings,
    DrainSettings,
    GrpcSettings,
    LogSettings,
    ServerSettings,
    SessionSection,
    Settings,
    StoreSettings,
    TlsSettings,
)
from streamer.config.sources import LoadedSettings, Override, load

__all__ = [
    "AccessSettings",
    "DrainSettings",
    "GrpcSettings",
    "LoadedSettings",
    "LogSettings",
    "Override",
    "ServerSettings",
    "SessionSection",
    "Settings",
    "StoreSettings",
    "TlsSettings",
    "describe",
    "load",
]
