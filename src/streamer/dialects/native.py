"""The endpoints of the native protocol: v1 and v2, in both modes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from streamer.protocols.opening import Accepted, Opening
from streamer.protocols.v1 import V1
from streamer.protocols.v2 import V2
from streamer.session.events import Mode
from streamer.session.settings import Limits, SessionSettings
from streamer.transports.endpoint import Endpoint
from streamer.transports.websocket import Frame


def native_endpoints(session: Callable[[Mode], SessionSettings], sample_rate: int) -> list[Endpoint]:
    """Return the native endpoints. `session`: returns the settings of a mode. `sample_rate` in Hz: of the model."""
    endpoints = []
    for mode in Mode:
        settings = session(mode)
        for dialect, subprotocols in ((V1, ("streamer.v1",)), (V2, ("streamer.v2",))):
            codec = dialect(mode, sample_rate, **message_limits(settings.limits))
            accept = partial(_shared, codec)
            path = f"/api/{dialect.name}/{mode}"
            uploads = codec if dialect is V2 else None
            endpoints.append(
                Endpoint(path, settings, accept, subprotocols, hears_auth=dialect is V2, upload_codec=uploads)
            )
    return endpoints


def message_limits(limits: Limits) -> dict[str, int]:
    """Return the limits that a codec checks."""
    return {"max_control_bytes": limits.max_control_bytes, "max_audio_message_bytes": limits.max_audio_message_bytes}


def _shared(codec: V1 | V2, _: Opening) -> Accepted[Frame]:
    """Return the codec of a native protocol version, the same for every connection."""
    return Accepted(codec)
