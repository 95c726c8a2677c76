"""Which caller fits an address: WebSocket or gRPC."""

from __future__ import annotations

from streamer.client.stream import is_grpc
from streamer.errors import BadRequest, install_command
from streamer.loadtest.load_client import LoadClient
from streamer.loadtest.websocket_client import WebSocketLoadClient


def load_client_for(url: str, token: str | None = None) -> LoadClient:
    """Return a caller for this address.

    Raises BadRequest for an address that is not valid, or that needs an extra that is not installed.
    """
    if not is_grpc(url):
        return WebSocketLoadClient(url, token)
    try:
        from streamer.loadtest.grpc_client import GrpcLoadClient  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError as error:
        raise BadRequest(f"grpc:// needs the extra: {install_command('grpc')} ({error})") from None
    return GrpcLoadClient(url, token)
