"""The dialects by name, in the order in which their paths are matched, and the selection that a setting makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import cast

from streamer.dialects.dialect import DialectContext, MountedDialect
from streamer.errors import ConfigError

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "openai": "streamer.dialects.openai",
        "deepgram": "streamer.dialects.deepgram",  # /v2/listen is matched before /v2/{language}
        "vosk": "streamer.dialects.vosk",
        "wyoming": "streamer.dialects.wyoming",
        "assemblyai": "streamer.dialects.assemblyai",
        "speechmatics": "streamer.dialects.speechmatics",
        "calls": "streamer.dialects.calls",
    }
)
"""Modules by the name of their dialect. Each has a function `mount`; one that is not there is not served."""

OWN_PORTS = frozenset({"wyoming", "calls"})
"""Dialects for other systems than the server's clients, which only `all` or their name opens."""


def select(serve: Sequence[str], *, model: str, word_times: str) -> tuple[str, ...]:
    """Return the names of the dialects to mount. `serve`: the setting; `model`: its name, for the error.

    Raises ConfigError if dialects are required and the model returns no transcripts, or a named one is not there.
    """
    known = [name for name, module in MODULES.items() if find_spec(module) is not None]
    names = set(known) if "all" in serve else set(serve) - {"auto", "none"}
    if "auto" in serve and word_times:
        names |= set(known) - OWN_PORTS
    if missing := names - set(known):
        expected = f"dialects of this version ({', '.join(known)})"
        raise ConfigError(field="dialects.serve", expected=expected, got=", ".join(sorted(missing)))
    if names and not word_times:
        expected = f"none, because model {model} returns no transcripts; a model that does sets its word_times"
        raise ConfigError(field="dialects.serve", expected=expected, got=", ".join(serve))
    return tuple(name for name in known if name in names)


def mount(name: str, context: DialectContext) -> MountedDialect:
    """Import a dialect, and mount it. Raises ConfigError for settings that it cannot serve."""
    return cast("MountedDialect", import_module(MODULES[name]).mount(context))
