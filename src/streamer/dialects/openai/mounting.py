"""Everything that the dialect adds to a server."""

from __future__ import annotations

from streamer.dialects.dialect import DialectContext, MountedDialect
from streamer.dialects.openai.files import file_routes
from streamer.dialects.openai.models import model_routes
from streamer.dialects.openai.realtime import realtime_endpoint
from streamer.dialects.openai.secrets import secret_routes


def mount(context: DialectContext) -> MountedDialect:
    """Mount files, the list of models, the Realtime API and its client secrets. Raises ConfigError."""
    routes = (*file_routes(context), *model_routes(context), *secret_routes(context))
    return MountedDialect((realtime_endpoint(context),), routes)
