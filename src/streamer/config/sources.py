"""Sources of settings: defaults, then a file, the environment, and flags. An error names the source."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from streamer.config.models import check_names
from streamer.config.settings import Settings
from streamer.errors import ConfigError, StreamerError, brief

SettingKey = tuple[str, ...]

NAMED = "models"
"""The section that has a section for each model."""
TABLES = ("engine", "parameters")
"""Keys of such a section that are tables themselves."""
UNTYPED = ("model", NAMED)
"""Sections whose values are parsed as JSON if they are text: their types are the model's."""


@dataclass(frozen=True, slots=True)
class Override:
    """A setting given by a flag: `--port` sets `server.port`."""

    flag: str
    key: str
    value: object


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and the source of each key that was set."""

    settings: Settings
    origins: Mapping[SettingKey, str]

    def origin(self, key: str) -> str:
        """Return the source of a dotted key: the name of a file, a variable, a flag, or `default`."""
        return _origin(self.origins, split_key(key))


def load(
    file: Path | None = None, *, environ: Mapping[str, str] | None = None, flags: Sequence[Override] = ()
) -> LoadedSettings:
    """Load the settings from all sources. Raises ConfigError, one line: source, key, expected, got."""
    tree: dict[str, Any] = {}
    origins: dict[SettingKey, str] = {}
    layers = [_from_file(file)] if file else []
    layers.append(_from_environment(os.environ if environ is None else environ))
    layers.append(_from_flags(flags))
    for layer in layers:
        for key, value, origin in layer:
            if key[0] not in Settings.model_fields:
                raise ConfigError(f"{origin}: {_unknown_key_error(key, value)}")
            _put(tree, key, value, origin)
            origins[key] = origin
    _refuse_booleans(tree, origins)
    try:
        settings = Settings(**tree)
        if settings.models and any(flag.key == "server.model" for flag in flags):
            check_names(settings.models, settings.server.model, "")  # from a flag, the default value is meant as well
        return LoadedSettings(settings, origins)
    except ValidationError as error:
        raise _config_error(error.errors()[0], origins) from None
    except StreamerError as error:  # a rule of a section, such as one threshold above another
        key = tuple((error.field or "").split("."))
        raise ConfigError(f"{_origin(origins, key)}: {error.message}", field=error.field) from None


Leaf = tuple[SettingKey, object, str]


def _from_file(path: Path) -> Iterator[Leaf]:
    try:
        text = path.read_text("utf-8")
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, got {error.reason} at byte {error.start}") from None
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ConfigError(f"{path}: expected {kind}, got {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected an object of sections, got {brief(document)}")
    for section, content in document.items():
        if section == NAMED and isinstance(content, dict) and content:
            yield from _leaves((section,), content, str(path))
        elif isinstance(content, dict) and content:
            yield from (((section, key), value, str(path)) for key, value in content.items())
        else:
            yield (section,), content, str(path)


def _leaves(key: SettingKey, content: dict[str, Any], origin: str) -> Iterator[Leaf]:
    """Yield the values of the sections of named models, each by its whole key."""
    for name, value in content.items():
        if isinstance(value, dict) and value and (len(key) == 1 or name in TABLES):
            yield from _leaves((*key, name), value, origin)
        else:
            yield (*key, name), value, origin


def split_key(key: str, separator: str = ".") -> SettingKey:
    """Return the parts of a key: a section and a key, and for named models all of its parts."""
    section, _, rest = key.partition(separator)
    return (section, *rest.split(separator)) if section == NAMED else (section, rest)


def _from_environment(environ: Mapping[str, str]) -> Iterator[Leaf]:
    """Read `STREAMER_SECTION__KEY` variables.

    Names without the double underscore are ignored: Kubernetes creates STREAMER_PORT for a service of this name.
    """
    prefix = "STREAMER_"
    for name in environ:
        if name.startswith(prefix) and "__" in name:
            key = split_key(name.removeprefix(prefix).lower(), "__")
            value = _parse(environ[name]) if key[0] in UNTYPED else environ[name]
            yield key, value, name


def _from_flags(flags: Sequence[Override]) -> Iterator[Leaf]:
    for flag in flags:
        key = split_key(flag.key)
        text = isinstance(flag.value, str) and key[0] in UNTYPED
        yield key, _parse(str(flag.value)) if text else flag.value, flag.flag


def _parse(text: str) -> object:
    """Parse a model's parameter, which has no declared type: as JSON if possible, otherwise as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _put(tree: dict[str, Any], key: SettingKey, value: object, origin: str) -> None:
    section = tree
    for part in key[:-1]:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            raise ConfigError(f"{origin}: {'.'.join(key)}: expected a section, got {brief(section)}")
    section[key[-1]] = value


def _refuse_booleans(tree: Mapping[str, Any], origins: Mapping[SettingKey, str]) -> None:
    """Refuse booleans for numbers: to Python a bool is an int, and would become 1."""
    for name, section in tree.items():
        kind = Settings.model_fields[name].annotation if name in Settings.model_fields else None
        if not (is_dataclass(kind) and isinstance(kind, type) and isinstance(section, dict)):
            continue
        hints = get_type_hints(kind)
        for field in fields(kind):
            if isinstance(section.get(field.name), bool) and hints[field.name] is not bool:
                key = (name, field.name)
                raise ConfigError(
                    f"{_origin(origins, key)}: {'.'.join(key)}: expected a number or text, not a boolean, "
                    f"got {brief(section[field.name])}"
                )


def _config_error(error: ErrorDetails, origins: Mapping[SettingKey, str]) -> ConfigError:
    key = tuple(str(part) for part in error["loc"])
    key = key[: 3 if key[0] == NAMED else 2]
    where, name = _origin(origins, key), ".".join(key)
    if error["type"] == "missing":
        return ConfigError(f"{_origin(origins, key[:-1])}: {name}: expected a value, got none", field=name)
    if error["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        return ConfigError(f"{where}: {_unknown_key_error(key, error['input'])}", field=name)
    if error["type"] == "dataclass_type":
        return ConfigError(field=f"{where}: {name}", expected="a section", got=error["input"])
    expected = re.split(", (?:unable|got) ", error["msg"].removeprefix("Input should be "))[0]
    return ConfigError(field=f"{where}: {name}", expected=expected, got=error["input"])


def _unknown_key_error(key: SettingKey, value: object) -> str:
    known = list(Settings.model_fields)
    if len(key) > 1 and key[0] in known:
        kind = Settings.model_fields[key[0]].annotation
        known = [field.name for field in fields(kind)] if is_dataclass(kind) else []
    else:
        key = key[:1]
    close = difflib.get_close_matches(key[-1], known, 1)
    meant = f" (did you mean {close[0]}?)" if close else f" ({', '.join(known)})"
    return f"{'.'.join(key)}: expected a known setting{meant}, got {brief(value)}"


def _origin(origins: Mapping[SettingKey, str], key: SettingKey) -> str:
    found = origins.get(key) or origins.get(key[:1])
    if found is None and key[0] == NAMED:  # a table, whose keys have the sources
        found = next((origin for known, origin in origins.items() if known[: len(key)] == key), None)
    return found or "default"
