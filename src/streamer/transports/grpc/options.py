"""Options of the gRPC server; all others are defaults."""

from __future__ import annotations

from streamer.config import Settings
from streamer.transports.grpc.auxiliary import MAX_STREAMING, MAX_WAITING
from streamer.transports.grpc.health import MAX_WATCHERS

_MESSAGE_OVERHEAD = 8
"""Tag and length around the audio of a message, so that a message one byte too long is read and refused by name."""
_IDENTITY_ONLY = 1
"""Audio hardly compresses, and a compressed message can be a decompression bomb."""
_MAX_METADATA_BYTES = 16 * 1024
_MAX_REFUSALS = 500
"""Concurrent calls that are being refused, besides those that are accepted."""


def options(settings: Settings, *, shared: bool) -> list[tuple[str, int]]:
    """Return the channel arguments of a server."""
    limits, grpc, handshake_s = settings.for_grpc(), settings.grpc, settings.server.handshake_timeout_s
    most = max(limits.max_audio_message_bytes, limits.max_control_bytes) + _MESSAGE_OVERHEAD
    return [
        ("grpc.max_receive_message_length", most),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY),
        ("grpc.so_reuseport", int(shared)),  # gRPC shares a port that is in use by default
        ("grpc.max_allowed_incoming_connections", grpc.max_connections),
        ("grpc.max_concurrent_streams", grpc.max_streams_per_connection),
        ("grpc.server_handshake_timeout_ms", _ms(handshake_s)),
        ("grpc.http2.settings_timeout", _ms(handshake_s)),
        ("grpc.max_connection_idle_ms", _ms(handshake_s)),
        ("grpc.keepalive_time_ms", _ms(grpc.keepalive_s)),
        ("grpc.keepalive_timeout_ms", _ms(grpc.keepalive_timeout_s)),
        ("grpc.http2.ping_timeout_ms", _ms(grpc.keepalive_timeout_s)),  # otherwise a minute, whatever the option above
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(grpc.min_ping_interval_s)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _ms(grpc.min_ping_interval_s)),
    ]


def max_calls(settings: Settings) -> int:
    """Return the number of concurrent calls; gRPC refuses further ones (RESOURCE_EXHAUSTED) itself.

    The server's own limits apply before: sessions, calls that wait for a first message, auxiliary calls.
    """
    auxiliary = MAX_WAITING + MAX_STREAMING + MAX_WATCHERS
    return settings.server.max_sessions + settings.server.max_handshakes + auxiliary + _MAX_REFUSALS


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
