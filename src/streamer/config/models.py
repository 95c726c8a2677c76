"""The sections `[models.NAME]`: several models in one server, each with its own parameters and limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from streamer.errors import BadRequest, ConfigError
from streamer.inference.settings import EngineSettings

_NAME = re.compile("[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class ModelSection:
    """One of several models. All other keys are the model's own, as in `[model]`."""

    model: str
    """`package.module:name`, `path/to/file.py:name`, or the name of an included model."""
    load: Literal["start", "first_use"] = "start"
    """`start`: load the model before the server is ready. `first_use`: load it for the first session."""
    keep_s: Annotated[float, Field(ge=0, le=30 * 86_400, allow_inf_nan=False)] = 0.0
    """Time after its last session after which the model is let go, until the next session; 0: never."""
    load_wait_s: Annotated[float, Field(gt=0, le=600)] = 8.0
    """Time for which a session waits for the model to load. Then it is refused with `overloaded`, and the load goes on.
    """
    max_sessions: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Concurrent sessions of this model; 0: only server.max_sessions applies."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `[engine]` that differ for this model."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the model that have one of the names above."""

    def engine_settings(self, name: str, base: EngineSettings) -> EngineSettings:
        """Return the engine's settings for this model. `name`: of the section. Raises BadRequest for a wrong one."""
        known = [each.name for each in fields(EngineSettings)]
        for key, value in self.engine.items():
            if key not in known:
                where = f"models.{name}.engine.{key}"
                raise BadRequest(field=where, expected=f"a setting of [engine] ({', '.join(known)})", got=value)
        try:
            return EngineSettings(**(asdict(base) | dict(self.engine)))
        except ConfigError as error:
            where = f"models.{name}.{error.field}"
            raise BadRequest(field=where, expected=error.expected, got=error.got) from None


OWN_KEYS = tuple(each.name for each in fields(ModelSection))


def _gathered(section: object) -> object:
    """Put the model's own keys of a section into `parameters`."""
    if not isinstance(section, dict):
        return section
    own = {key: value for key, value in section.items() if key in OWN_KEYS}
    others = {key: value for key, value in section.items() if key not in OWN_KEYS}
    if not others:
        return own
    parameters = own.get("parameters", {})
    return own | {"parameters": others | parameters} if isinstance(parameters, dict) else own


NamedModels = dict[str, Annotated[ModelSection, BeforeValidator(_gathered)]]
"""Models by name, in the order of the file."""


def check_names(models: Mapping[str, ModelSection], default: str, unset_default: str) -> None:
    """Check the names of several models. `default`: `server.model`; `unset_default`: its value without a setting.

    Raises BadRequest.
    """
    for name in models:
        if not _NAME.fullmatch(name):
            raise BadRequest(field=f"models.{name}", expected="a name of letters, digits, _ and -", got=name)
    if default not in models and default != unset_default:
        raise BadRequest(
            field="server.model",
            expected=f"the name of one of the models ({', '.join(models)}), which requests without a name get",
            got=default,
        )
