"""The part in a Ray actor: the model runner, behind two methods that take and return bytes."""

from __future__ import annotations

import os
import pickle
import platform
import socket
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any

import msgspec
import psutil

from streamer.errors import DISTRIBUTION
from streamer.inference.model_runner import Host
from streamer.inference.worker_protocol import LAYOUT, WorkerReply, decode_call, encode

Versions = tuple[str, str, int]
"""Of Streamer, of Python without its patch level, and the layout of calls and replies."""


def versions() -> Versions:
    """Return the versions of this process, which must be those of the other side."""
    return metadata.version(DISTRIBUTION), ".".join(platform.python_version_tuple()[:2]), LAYOUT


class ActorHost:
    """The model of one actor, and the replies of its running call, which are fetched one by one."""

    def __init__(self, make_host: bytes) -> None:
        """Unpickle what makes the model runner. Errors are those of a missing module or another version."""
        make: Callable[[], Host] = pickle.loads(make_host)  # noqa: S301 (from the server, over the cluster's own network)
        self._host = make()
        self._process = psutil.Process()
        self._replies: Iterator[WorkerReply] = iter(())

    def run(self, head: bytes, samples: Sequence[Any]) -> bytes:
        """Start a call and return its first reply. `head`: the call without samples; `samples`: float32."""
        call = decode_call(head)
        items = [
            msgspec.structs.replace(item, samples=array.data.cast("B") if len(array) else memoryview(b""))
            for item, array in zip(call.items, samples, strict=True)
        ]
        self._replies = self._host.run(msgspec.structs.replace(call, items=items))
        return self.more()

    def more(self) -> bytes:
        """Return the next reply of the running call."""
        reply = next(self._replies)
        if reply.done:
            reply = msgspec.structs.replace(reply, rss=self._process.memory_info().rss)
        return encode(reply)


def place() -> str:
    """Return where this process runs, for the log."""
    return f"{socket.gethostname()}, process {os.getpid()}"
