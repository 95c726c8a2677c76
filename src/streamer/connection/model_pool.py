"""The models of a server by name: which one a request gets, and all of them as one to the parts that start and stop."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from streamer.connection.hosted_model import HostedModel, ModelState
from streamer.errors import ConfigError, ErrorCode, ModelLoadError, StreamerError, brief
from streamer.inference.contract import EngineDepth, Readiness
from streamer.protocols.opening import Opening

Router = Callable[[Opening], str | None]
"""Returns the name of the model for a request that names none; None for the default."""

log = logging.getLogger(__name__)


class UnknownModel(StreamerError):
    """The server has no model of this name. The message names those that it has."""

    code = ErrorCode.UNKNOWN_MODEL


class ModelPool:
    """Several models of one server. Implements `inference.contract.ModelBackend` for all of them."""

    def __init__(self, models: Sequence[HostedModel], default: str = "", router: Router | None = None) -> None:
        """Create a pool. `default`: name of the model for requests that name none; empty: the first one."""
        self._models = {model.name: model for model in models}
        self.default = self._models[default or models[0].name]
        self.router = router

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._models)

    # By name ------------------------------------------------------------------------------------

    def named(self, name: str) -> HostedModel:
        """Return the model of a name, the default one for an empty name. Raises UnknownModel."""
        if not name:
            return self.default
        model = self._models.get(name)
        if model is None:
            raise UnknownModel(field="model", expected=f"one of {', '.join(self._models)}", got=name)
        return model

    def of_request(self, opening: Opening, name: str = "") -> HostedModel:
        """Return the model of a request: that of its name if it has one, otherwise the router's choice or the default.

        `name`: from the path, the metadata or a parameter of the request. Raises UnknownModel, and the StreamerErrors
        of the router.
        """
        if name or self.router is None:
            return self.named(name)
        try:
            chosen = self.router(opening)
        except StreamerError:
            raise
        except Exception:
            log.exception("server.router failed for a request to %s", brief(opening.path))
            raise StreamerError("internal server error") from None
        if chosen is not None and not isinstance(chosen, str):
            log.error("server.router: expected a model's name or None, got %s", brief(chosen))
            raise StreamerError("internal server error")
        return self.named(chosen or "")

    # All of them --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the models that are loaded at the start, side by side. Raises ModelLoadError if one of them fails."""
        results = await asyncio.gather(*(model.start() for model in self._models.values()), return_exceptions=True)
        failures = [result for result in results if isinstance(result, ModelLoadError)]
        if failures:
            details = "\n".join(filter(None, (failure.detail for failure in failures)))
            raise ModelLoadError("; ".join(failure.message for failure in failures), detail=details)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def stop(self, timeout_s: float) -> None:
        """Stop all models side by side."""
        await asyncio.gather(*(model.stop(timeout_s) for model in self._models.values()))

    def check_admission(self) -> None:
        """Do nothing: a full model refuses its own sessions, and no others."""

    @property
    def readiness(self) -> Readiness:
        """Whether any model can take sessions; if none can, the reason of each."""
        states = {name: model.readiness for name, model in self._models.items()}
        if any(state.ready for state in states.values()):
            return Readiness(True)
        return Readiness(False, "; ".join(f"{name}: {state.reason}" for name, state in states.items()))

    @property
    def depth(self) -> EngineDepth:
        """Work of all models; `load` is that of the busiest."""
        depths = [model.depth for model in self._models.values()]
        return EngineDepth(
            sum(depth.pending_items for depth in depths),
            sum(depth.pending_seconds for depth in depths),
            sum(depth.running_items for depth in depths),
            sum(depth.workers_idle for depth in depths),
            sum(depth.workers_busy for depth in depths),
            sum(depth.workers_down for depth in depths),
            max(depth.load for depth in depths),
        )

    @property
    def states(self) -> Mapping[str, str]:
        """State of each model: `ready` if it takes sessions now, or the reason why not."""
        return {name: _state(model) for name, model in self._models.items()}

    @property
    def sessions(self) -> Mapping[str, int]:
        """Sessions of each model that has any."""
        return +Counter({name: model.sessions for name, model in self._models.items()})


def _state(model: HostedModel) -> str:
    now = model.readiness
    return model.state if now.ready else f"{ModelState.FAILED}: {now.reason}"


def load_router(name: str) -> Router:
    """Return the function `package.module:function` of `server.router`. Raises ConfigError."""
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ConfigError(field="server.router", expected="package.module:function", got=name)
    if "" not in sys.path and str(Path.cwd()) not in sys.path:  # an installed command does not search where it is run
        sys.path.insert(0, str(Path.cwd()))
    try:
        router = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConfigError(
            field="server.router", expected=f"a function that can be imported ({reason})", got=name
        ) from error
    if not callable(router):
        raise ConfigError(field="server.router", expected="a function", got=router)
    chosen: Router = router
    return chosen
