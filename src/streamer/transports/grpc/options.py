"""What is set of gRPC's own; the rest is as it comes."""

from __future__ import annotations

from streamer.config import Settings

_MESSAGE_OVERHEAD = 8
"""Tag and length around the audio of a message: what is one byte too long is still read, and refused by name."""
_IDENTITY_ONLY = 1
"""Audio does not compress, and a compressed message can be a bomb."""
_MAX_METADATA_BYTES = 16 * 1024
_MAX_UNUSED_S = 300.0
"""A connection without a call is closed after so long."""


def options(settings: Settings, *, shared: bool) -> list[tuple[str, int]]:
    """The channel arguments of a server."""
    limits, grpc = settings.limits, settings.grpc
    most = max(limits.max_audio_message_bytes, limits.max_control_bytes) + _MESSAGE_OVERHEAD
    return [
        ("grpc.max_receive_message_length", most),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY),
        ("grpc.so_reuseport", int(shared)),  # gRPC shares a port that is taken unless told not to
        ("grpc.max_connection_idle_ms", _ms(_MAX_UNUSED_S)),
        ("grpc.server_handshake_timeout_ms", _ms(settings.server.handshake_timeout_s)),
        ("grpc.keepalive_time_ms", _ms(grpc.keepalive_s)),
        ("grpc.keepalive_timeout_ms", _ms(grpc.keepalive_timeout_s)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(grpc.min_ping_interval_s)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _ms(grpc.min_ping_interval_s)),
    ]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
