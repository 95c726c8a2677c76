"""The settings as TOML: a valid settings file, with the explanation and source of each value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from streamer.config.models import OWN_KEYS, ModelSection
from streamer.config.settings import Settings
from streamer.config.sources import NAMED, TABLES, LoadedSettings


def describe(loaded: LoadedSettings) -> str:
    """Return all settings as TOML."""
    return "\n".join(_lines(loaded)).strip()


def _lines(loaded: LoadedSettings) -> Iterator[str]:
    meanings = Settings.model_json_schema()["$defs"]
    for name, info in Settings.model_fields.items():
        section = getattr(loaded.settings, name)
        yield ""
        if info.description:
            yield f"# {info.description}"
        yield f"[{name}]"
        if name == NAMED:
            yield from _models(loaded, meanings)
            continue
        if not is_dataclass(section):
            for key, value in section.items():
                yield _line(key, value, loaded.origin(f"{name}.{key}"))
            continue
        known = meanings[type(section).__name__]["properties"]
        for field in fields(section):
            if meaning := known[field.name].get("description"):
                yield f"# {' '.join(meaning.split())}"
            yield _line(field.name, getattr(section, field.name), loaded.origin(f"{name}.{field.name}"))


def _models(loaded: LoadedSettings, meanings: dict[str, Any]) -> Iterator[str]:
    """Yield the section of each model; without any, what could stand in one as comments."""
    known = meanings[ModelSection.__name__]["properties"]
    models = loaded.settings.models
    for name, section in models.items():
        yield f"[{NAMED}.{name}]"
        for field in fields(section):
            value = getattr(section, field.name)
            if field.name == "parameters":
                own = {key: each for key, each in value.items() if key not in OWN_KEYS}
                yield from (_line(key, each, loaded.origin(f"{NAMED}.{name}.{key}")) for key, each in own.items())
                value = {key: each for key, each in value.items() if key in OWN_KEYS}
            if value or field.name not in TABLES:
                yield _line(field.name, value, loaded.origin(f"{NAMED}.{name}.{field.name}"))
    if not models:
        yield f"# [{NAMED}.NAME]"
        for field in fields(ModelSection):
            yield f"# {field.name}: {' '.join(known[field.name]['description'].split())}"


def _line(key: str, value: Any, origin: str) -> str:
    text = f"{key} = {_toml(value)}"
    return text if origin == "default" else f"{text}  # from {origin}"


def _toml(value: Any) -> str:
    """Return a value as TOML, which agrees with JSON on text, numbers, booleans and lists; only tables differ."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)
