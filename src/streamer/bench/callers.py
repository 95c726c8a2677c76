"""Which caller fits an address: WebSocket or gRPC."""

from __future__ import annotations

from streamer.bench.calling import Caller
from streamer.bench.websocket import WebSocketCaller
from streamer.client.stream import is_grpc
from streamer.errors import BadRequest, install_command


def caller_of(url: str, token: str | None = None) -> Caller:
    """Return a caller for this address.

    Raises BadRequest for an address that is not valid, or that needs an extra that is not installed.
    """
    if not is_grpc(url):
        return WebSocketCaller(url, token)
    try:
        from streamer.bench.grpc_call import GrpcCaller  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError as error:
        raise BadRequest(f"grpc:// needs the extra: {install_command('grpc')} ({error})") from None
    return GrpcCaller(url, token)
