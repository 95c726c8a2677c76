"""All parts of Deepgram's protocol."""

from __future__ import annotations

from streamer.dialects.deepgram.files import file_route
from streamer.dialects.deepgram.listen import flux_endpoint, listen_endpoint
from streamer.dialects.dialect import DialectContext, MountedDialect


def mount(context: DialectContext) -> MountedDialect:
    """Return Deepgram's endpoints and routes."""
    return MountedDialect((listen_endpoint(context), flux_endpoint(context)), (file_route(context),))
