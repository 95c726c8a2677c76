"""The messages of v1 on the wire, for server and client: the format of streamer-template, Streamer's predecessor.

Unknown fields are ignored, as in the original. Times are seconds.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Format(msgspec.Struct, frozen=True):
    """16-bit integers or 32-bit floats, little-endian, interleaved; `sample_rate` in Hz."""

    channels: int
    sample_rate: int
    bit_depth: int
    is_float: bool


class Start(msgspec.Struct, frozen=True, tag_field="request", tag="start", kw_only=True):
    """`trace_id` is a W3C traceparent."""

    trace_id: str | None = None
    format: Format
    interim_results: bool = False


class Stop(msgspec.Struct, frozen=True, tag_field="request", tag="stop"):
    """Finish the received audio; with `disconnect` false the connection stays open for another stream."""

    disconnect: bool = False


ClientMessage = Start | Stop


class Active(msgspec.Struct, frozen=True, tag_field="type", tag="active"):
    """Speech started at `time`."""

    time: float
    channel: int = 0


class Inactive(msgspec.Struct, frozen=True, tag_field="type", tag="inactive"):
    """Speech ended at `time`."""

    time: float
    channel: int = 0


class Error(msgspec.Struct, frozen=True, tag_field="type", tag="error", omit_defaults=True):
    """An error; all fields but the message and the channel are additions to the original."""

    message: str
    channel: int
    code: str | None = None
    fatal: bool | None = None
    retryable: bool | None = None
    start_time: float | None = None
    end_time: float | None = None
    retry_after_ms: int | None = None


RESERVED = frozenset({"type", "start_time", "end_time", "is_final", "channel"})
"""Keys of a result that belong to the protocol; a model's own value for one of them is dropped."""


def flatten(head: dict[str, Any], encoded: msgspec.Raw, channel: int) -> dict[str, Any]:
    """Return a result with the model's output flattened into it.

    An output that is not an object becomes the key `output`.
    """
    output = msgspec.json.decode(encoded)
    if isinstance(output, dict):
        head.update({key: value for key, value in output.items() if key not in RESERVED})
    else:
        head["output"] = output
    head["channel"] = channel
    return head


def unflatten(result: dict[str, Any]) -> Any:
    """Return the model's output of a flattened result."""
    rest = {key: value for key, value in result.items() if key not in RESERVED}
    return rest["output"] if rest.keys() == {"output"} and not isinstance(rest["output"], dict) else rest
