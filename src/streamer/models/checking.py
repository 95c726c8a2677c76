"""Checks of a model against the model interface, before it is loaded: methods and their arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from streamer.errors import ModelLoadError, brief
from streamer.models.author_errors import place_of
from streamer.models.contract import AnyModel, FunctionModel, Model, StreamingModel

_REQUIRED: dict[type, dict[str, tuple[str, ...]]] = {
    Model: {"infer": ("batch",)},
    StreamingModel: {"open": ("info",), "step": ("states", "batch")},
}
"""Methods that a model must define, with their arguments."""


def check_model(model: AnyModel) -> None:
    """Raise ModelLoadError for a missing method, or for one that does not take its arguments."""
    name = model.name or type(model).__name__
    if isinstance(model, FunctionModel):
        _check_arguments(name, model.function, ("samples",))
        return
    base = StreamingModel if isinstance(model, StreamingModel) else Model
    for method, arguments in _REQUIRED[base].items():
        found = getattr(model, method, None)
        signature = f"{method}({', '.join(('self', *arguments))})"
        if found is None or getattr(type(model), method, None) is getattr(base, method):
            raise ModelLoadError(
                f"model {brief(name)}: expected a method {signature}, as every {base.__name__} has, got none; "
                f"add it to {_place_of_class(type(model))}"
            )
        _check_arguments(name, found, arguments)


def _check_arguments(name: str, function: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C: without a signature
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise ModelLoadError(
            f"model {brief(name)}: expected a function that takes ({', '.join(arguments)}), got {signature}: {error}; "
            f"change {place_of(function)}"
        ) from None


def _place_of_class(kind: type) -> str:
    try:
        return f"class {kind.__qualname__} in {inspect.getsourcefile(kind)}, line {inspect.getsourcelines(kind)[1]}"
    except (OSError, TypeError):
        return f"class {kind.__qualname__}"
