"""The request that opens a connection, as a value for codecs; and what is answered to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from streamer.protocols.codec import Codec

FrameT = TypeVar("FrameT")


@dataclass(frozen=True, slots=True)
class Opening:
    """The request of one connection.

    `query`: names and values in their order. `headers`: by their names in lower case. `id`: new for each request.
    `at`: seconds since 1970.
    """

    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    id: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Accepted(Generic[FrameT]):
    """The codec of a connection. `headers`: of the answer. `ignored`: names of parameters that have no effect.

    `model`: name of one of several models, with whose sample rate the codec counts; empty for the default one.
    `on_end` is called when the connection has ended.
    """

    codec: Codec[FrameT]
    headers: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    model: str = ""
    on_end: Callable[[], None] | None = None
