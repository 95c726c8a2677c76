"""The words of v1 as they travel, for both ends: the wire format of the system that Streamer carries on.

A reader skips fields it does not know, as that system's did. Times are seconds.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Format(msgspec.Struct, frozen=True):
    """16 bits of integer or 32 of float, little-endian, interleaved; `sample_rate` in Hz."""

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
    """Finish what was sent; `disconnect` false keeps the connection for another stream."""

    disconnect: bool = False


ClientMessage = Start | Stop


class Active(msgspec.Struct, frozen=True, tag_field="type", tag="active"):
    """Speech opened at `time`."""

    time: float
    channel: int = 0


class Inactive(msgspec.Struct, frozen=True, tag_field="type", tag="inactive"):
    """Speech ended at `time`."""

    time: float
    channel: int = 0


class Error(msgspec.Struct, frozen=True, tag_field="type", tag="error", omit_defaults=True):
    """A fault; all but the message and the channel came later than the original."""

    message: str
    channel: int
    code: str | None = None
    fatal: bool | None = None
    retryable: bool | None = None
    start_time: float | None = None
    end_time: float | None = None
    retry_after_ms: int | None = None


RESERVED = frozenset({"type", "start_time", "end_time", "is_final", "channel"})
"""Keys of a result that are the protocol's; a model's own value under one of them is left out."""


def flat(head: dict[str, Any], encoded: msgspec.Raw, channel: int) -> dict[str, Any]:
    """Return a result with the model's output flattened in; an output that is not an object goes under `output`."""
    output = msgspec.json.decode(encoded)
    if isinstance(output, dict):
        head.update({key: value for key, value in output.items() if key not in RESERVED})
    else:
        head["output"] = output
    head["channel"] = channel
    return head


def unflat(result: dict[str, Any]) -> Any:
    """What `flat` did, undone: the model's output of a result."""
    rest = {key: value for key, value in result.items() if key not in RESERVED}
    return rest["output"] if rest.keys() == {"output"} and not isinstance(rest["output"], dict) else rest
