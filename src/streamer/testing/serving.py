"""A server for a user's own tests: their model, in the process of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from streamer.app import App
from streamer.config import Settings
from streamer.models.contract import AnyModel
from streamer.parts import build
from streamer.session.events import Mode


@dataclass(frozen=True, slots=True)
class Served:
    """A server that is ready. `url`: `http://127.0.0.1:PORT`."""

    url: str

    def endpoint(self, mode: Mode | str = Mode.SEGMENTED) -> str:
        """Return the WebSocket address of a mode, for `streamer.connect`."""
        return f"{self.url.replace('http', 'ws', 1)}/api/v2/{Mode(mode)}"


@dataclass(frozen=True, slots=True)
class _Given:
    """A model that exists already, or its class."""

    model: AnyModel | type[AnyModel]

    def load(self) -> AnyModel:
        return self.model() if isinstance(self.model, type) else self.model


@asynccontextmanager
async def serve(model: AnyModel | type[AnyModel], **sections: dict[str, object]) -> AsyncIterator[Served]:
    """Serve a model on a free port of 127.0.0.1 while the context is open.

    `model`: a decorated function, an instance or a class without arguments; it runs in threads of this process.
    `sections`: settings, such as `limits={"max_channels": 2}`. Raises ModelLoadError and ConfigError.
    """
    settings = Settings.model_validate({**sections, "server": {"port": 0, **sections.get("server", {})}})
    async with App(settings, parts=build(settings, _Given(model))) as app:
        yield Served(app.url)
