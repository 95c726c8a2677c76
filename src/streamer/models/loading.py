"""Loading of models: built-in names, import paths and files, each with its parameters."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import msgspec

from streamer.errors import ConfigError, ModelLoadError, StreamerError, brief
from streamer.models.author_errors import author_traceback, error_line
from streamer.models.contract import SETTINGS, AnyModel, BaseModel, FunctionModel, Model, StreamingModel, WorkerRange

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "stub": "streamer.models.stub:Stub",
        "passthrough": "streamer.models.passthrough:Passthrough",
        "rnnoise": "streamer.models.rnnoise:RNNoise",
        "moonshine": "streamer.models.moonshine:Moonshine",
        "pocketsphinx": "streamer.models.pocketsphinx:PocketSphinx",
        "whisper": "streamer.models.whisper:Whisper",
        "sherpa": "streamer.models.sherpa_onnx:sherpa",
        "parakeet": "streamer.models.sherpa_onnx:parakeet",
        "sherpa_onnx": "streamer.models.sherpa_onnx:SherpaOnnx",
        "sherpa_onnx_streaming": "streamer.models.sherpa_onnx:SherpaOnnxStreaming",
        "open_inference": "streamer.models.open_inference:OpenInference",
        "open_inference_streaming": "streamer.models.open_inference:OpenInferenceStreaming",
    }
)
"""The included models by name."""

WITH_WEIGHTS = frozenset({"moonshine", "whisper", "sherpa", "parakeet"})
"""Those of them after whose name the weights may stand: `moonshine:base-en`."""

_WORKER_RANGE = f"{WorkerRange.__module__}.{WorkerRange.__qualname__}"
_SECTION = "model"
"""Section of the parameters of a server's only model."""
_NO_PARAMETERS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model and its parameters as plain values, from which a worker process builds the model."""

    spec: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    section: str = _SECTION
    """Section of the settings with the parameters, for errors."""

    def load(self) -> AnyModel:
        """Build the model; see `load_model`."""
        try:
            return load_model(self.spec, self.parameters)
        except ConfigError as error:
            if self.section == _SECTION or not (error.field or "").startswith(f"{_SECTION}."):
                raise
            where = self.section + (error.field or "").removeprefix(_SECTION)
            raise ConfigError(field=where, expected=error.expected, got=error.got) from None


def load_model(spec: str, parameters: Mapping[str, object] = _NO_PARAMETERS) -> AnyModel:
    """Find the model `spec` and build it, without calling its `load()`, which is up to a worker.

    `spec`: a built-in name (with weights: `moonshine:base-en`), `package.module:name`, or `path/to/file.py:name`. The
    name may be a function decorated with `@streamer.model`, a model's class, an instance, or a function that returns
    one. `parameters` are passed to the constructor (or the factory). Attributes of every model (`workers`, `executor`,
    `max_batch_size`, ...) that the constructor does not take are set on the instance.

    Raises ModelLoadError (what was expected, what was found) or ConfigError (a parameter: key, expected, got).
    """
    spec, weights = split_weights(spec)
    if weights:
        parameters = {**parameters, "weights": weights}
    found = _find(spec)
    constructor = {key: value for key, value in parameters.items() if key not in SETTINGS or _has_parameter(found, key)}
    model = _build(spec, found, constructor)
    for key in parameters.keys() - constructor.keys():
        setattr(model, key, _convert(key, parameters[key], typing.get_type_hints(BaseModel)[key]))
    return model


def split_weights(spec: str) -> tuple[str, str]:
    """Return a built-in name and the weights named after its colon; `spec` and "" if it names no weights."""
    name, _, weights = spec.partition(":")
    return (name, weights) if name in WITH_WEIGHTS else (spec, "")


def fetch(spec: str, parameters: Mapping[str, object] = _NO_PARAMETERS) -> None:
    """Get the weights of a built-in model, from the network if need be; other models see to theirs in load().

    Raises ConfigError or ModelLoadError, as `load_model`.
    """
    if split_weights(spec)[0] in WITH_WEIGHTS:
        load_model(spec, parameters).fetch()


def _find(spec: str) -> object:
    target = BUILT_IN.get(spec, spec)
    place, colon, name = target.rpartition(":")
    if not (colon and place and name):
        places = f"package.module:name, path/to/file.py:name, or one of {', '.join(BUILT_IN)}"
        raise ModelLoadError(f"no model {brief(spec)}: expected {places}")
    module = _import_file(Path(place), spec) if place.endswith(".py") else _import_module(place, spec)
    try:
        found: object = module
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        offered = ", ".join(sorted(_models_in(module))) or "none"
        raise ModelLoadError(f"model {brief(spec)}: {place} has no {name!r}; models found there: {offered}") from None
    return found


def _models_in(module: ModuleType) -> list[str]:
    """Return the models that a module defines, without those it imports."""
    own = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, FunctionModel) or getattr(value, "__module__", None) == module.__name__
    }
    return [
        name
        for name, value in own.items()
        if isinstance(value, BaseModel) or (isinstance(value, type) and issubclass(value, BaseModel))
    ]


def _import_module(name: str, spec: str) -> ModuleType:
    # an installed command does not search the current directory
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            looked = "(looked here and in the installed packages)"
            raise ModelLoadError(f"model {brief(spec)}: no module named {error.name!r} {looked}") from None
        raise _import_failed(spec, error) from error
    except Exception as error:
        raise _import_failed(spec, error) from error


def _import_file(path: Path, spec: str) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise ModelLoadError(f"model {brief(spec)}: no file {str(path)!r}")
    # The same file is always one module; the digest distinguishes files of the same name.
    name = f"streamer_model_{path.stem}_{blake2b(bytes(path), digest_size=4).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    loading = importlib.util.spec_from_file_location(name, path)
    assert loading is not None
    assert loading.loader is not None
    module = importlib.util.module_from_spec(loading)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:  # as if Python ran the file, so that its neighbours can be imported
        sys.path.insert(0, str(path.parent))
    try:
        loading.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _import_failed(spec, error) from error
    return module


def _import_failed(spec: str, error: Exception) -> ModelLoadError:
    if isinstance(error, ModelLoadError):
        return error
    return ModelLoadError(
        f"model {brief(spec)}: importing it failed: {error_line(error)}", detail=author_traceback(error)
    )


def _build(spec: str, found: object, parameters: Mapping[str, object]) -> AnyModel:
    if isinstance(found, Model | StreamingModel):
        if parameters:
            raise ConfigError(
                field=f"model.{min(parameters)}",
                expected=f"one of {', '.join(sorted(SETTINGS))} ({spec} is an instance and takes no others)",
                got=next(iter(parameters.values())),
            )
        return found
    if not callable(found):
        raise ModelLoadError(f"model {brief(spec)}: expected a model, its class or a factory, got {brief(found)}")
    try:
        model = found(**_arguments(spec, found, parameters))
    except StreamerError:
        raise
    except Exception as error:
        raise ModelLoadError(
            f"model {brief(spec)}: building it failed: {error_line(error)}", detail=author_traceback(error)
        ) from error
    if not isinstance(model, Model | StreamingModel):
        raise ModelLoadError(f"model {brief(spec)}: expected a Model or StreamingModel, got {brief(model)}")
    return model


def _arguments(spec: str, found: Callable[..., Any], parameters: Mapping[str, object]) -> dict[str, object]:
    """Return the parameters, converted to the annotated types of the constructor."""
    known = {} if _is_plain(found) else dict(inspect.signature(found).parameters)
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    named = {name: parameter for name, parameter in known.items() if parameter.kind not in _VARIADIC}
    missing = [name for name, p in named.items() if p.default is p.empty and name not in parameters]
    if missing and not isinstance(found, type):
        raise ModelLoadError(
            f"model {brief(spec)}: {missing[0]!r} has no value. A function of samples needs @streamer.model above it; "
            "a factory gets its arguments from the settings of [model]"
        )
    if missing:
        raise ConfigError(field=f"model.{missing[0]}", expected="a value, as the model needs it", got=None)
    hints = _hints(found)
    arguments: dict[str, object] = {}
    for key, value in parameters.items():
        if key not in named and not open_ended:
            expected = ", ".join(sorted({*named, *SETTINGS}))
            raise ConfigError(field=f"model.{key}", expected=f"one of {expected}", got=value)
        arguments[key] = _convert(key, value, hints[key]) if key in hints else value
    return arguments


_VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _is_plain(found: object) -> bool:
    """Return whether a class has no constructor of its own: the signature of `object`'s is useless."""
    return isinstance(found, type) and found.__init__ is object.__init__  # type: ignore[misc]


def _has_parameter(found: object, key: str) -> bool:
    if isinstance(found, BaseModel) or not callable(found) or _is_plain(found):
        return False
    return key in inspect.signature(found).parameters


def _hints(found: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(found.__init__ if isinstance(found, type) else found)  # type: ignore[misc]
    except (NameError, TypeError):  # annotations that only a type checker can read
        return {}


def _convert(key: str, value: object, hint: Any) -> object:
    """Convert `value` to the type `hint`: text of the environment becomes a number, a wrong type is an error."""
    if isinstance(value, str) and (hint is Path or hint == Path | None):
        return Path(value)
    try:
        return msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError:
        raise ConfigError(field=f"model.{key}", expected=_type_name(hint), got=value) from None
    except TypeError:  # a type that only the model understands
        return value


def _type_name(hint: Any) -> str:
    return (
        hint.__name__
        if isinstance(hint, type)
        else str(hint).replace("typing.", "").replace(_WORKER_RANGE, "{min, max}")
    )
