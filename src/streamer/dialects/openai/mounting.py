"""Everything that the dialect adds to a server."""

from __future__ import annotations

from streamer.dialects.dialect import DialectContext, MountedDialect
from streamer.dialects.openai.files import file_routes
from streamer.dialects.openai.models import model_routes
from streamer.dialects.openai.realtime import realtime_endpoint


def mount(context: DialectContext) -> MountedDialect:
    """Mount files, the list of models, and the Realtime API."""
    return MountedDialect((realtime_endpoint(context),), (*file_routes(context), *model_routes(context)))
