"""Live audio: the WebSocket at `/v1/listen`."""

from __future__ import annotations

from streamer.dialects.deepgram.answers import (
    CARRIERS,
    LISTEN_CLOSE_CODES,
    LISTEN_CLOSE_REASONS,
    REQUEST_ID,
    identity_of,
    policy_of,
    refuse,
)
from streamer.dialects.dialect import DialectContext
from streamer.dialects.native import message_limits
from streamer.protocols.deepgram.listen import Listen
from streamer.protocols.deepgram.query import read_listen
from streamer.protocols.opening import Accepted, Opening
from streamer.transports.endpoint import Endpoint
from streamer.transports.websocket import Frame

LISTEN = "/v1/listen"


def listen_endpoint(context: DialectContext) -> Endpoint:
    """Return the endpoint of live audio."""
    policy, model = policy_of(context), context.model

    def accept(opening: Opening) -> Accepted[Frame]:
        request = read_listen(opening.query, policy)
        identity = identity_of(opening.id, opening.at, model.name)
        codec = Listen(request, identity, model.sample_rate, **message_limits(policy.session.limits))
        return Accepted(codec, {REQUEST_ID: opening.id}, request.ignored)

    return Endpoint(
        LISTEN,
        policy.session,
        accept,
        CARRIERS.pairs,
        carriers=CARRIERS,
        close_codes=LISTEN_CLOSE_CODES,
        close_reasons=LISTEN_CLOSE_REASONS,
        refusal=refuse,
    )
