"""One gRPC call as a transport. A frame is a serialized message, which is not interpreted here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar
from urllib.parse import unquote

import grpc.aio

from streamer.access import Proxies
from streamer.connection.transport import FrameSink
from streamer.errors import ErrorCode
from streamer.protocols.grpc_codec import GrpcFrame, HalfCloseFrame

RpcContext = grpc.aio.ServicerContext[bytes, bytes]
P = ParamSpec("P")
ResultT = TypeVar("ResultT")

ACCEPTED = (("streamer-protocol", "streamer.v2"),)
"""Initial metadata of an accepted call; a refusal is a status without it."""
_CANCEL_GRACE_S = 0.01
"""Time in seconds to wait for a cancellation after the EOF of a call; a few milliseconds were measured."""


@dataclass(frozen=True, slots=True)
class CallEnd:
    """Status by which the server ends a call."""

    code: ErrorCode | None
    reason: str


class GrpcTransport:
    """One accepted call; implements `connection.transport.Transport`.

    A call ends when its handler returns, so `close` and `abort` only store how, and wake the tasks that wait for the
    call.
    """

    name = "grpc"

    def __init__(self, call: RpcContext, proxies: Proxies | None = None) -> None:
        """Wrap a call. `proxies`: trusted ones."""
        self._call = call
        self.peer = client_of(call, proxies or Proxies())
        self.control_frames_received = 0
        """Always 0: gRPC answers HTTP/2 pings itself. A silent client sends `keepalive`."""
        self.has_peer_closed = False
        """Always False: a client that has finished half-closes its call, which is a message."""
        self.call_end: CallEnd | None = None
        """None if the client disconnected or was cut off."""
        self.audio_s = 0.0
        """Seconds of audio that the call sent, once it is over."""
        self._end_event = False
        self._half_closed = False
        self._unread: GrpcFrame | None = None
        self._accepted = False
        self._call_tasks: set[asyncio.Task[Any]] = set()
        self._cancelled_tasks: set[asyncio.Task[Any]] = set()

    async def accept(self) -> None:
        """Send the initial metadata, once; without it, the client would receive nothing before the first event.

        Raises ConnectionError if the client has disconnected.
        """
        if not self._accepted:
            self._accepted = True
            await self._unless_over(self._call.send_initial_metadata, ACCEPTED)

    def unread(self, frame: GrpcFrame) -> None:
        """Return a frame to the front of the receive queue."""
        self._unread = frame

    def set_sink(self, sink: FrameSink[GrpcFrame] | None) -> None:
        """Do nothing: all frames go through `receive`."""

    async def receive(self) -> GrpcFrame | None:
        if self._unread is not None:
            frame, self._unread = self._unread, None
            return frame
        try:
            if self._half_closed:
                await self._unless_over(_forever)
            message: object = await self._unless_over(self._call.read)
        except ConnectionError:
            return None
        if isinstance(message, bytes):
            return message
        return await self._after_eof()

    async def _after_eof(self) -> GrpcFrame | None:
        """Return the frame after gRPC's EOF, which means a half-close, or a cancellation that follows in a moment."""
        self._half_closed = True
        try:
            await self._unless_over(asyncio.sleep, _CANCEL_GRACE_S)
        except ConnectionError:
            return None
        return HalfCloseFrame.HALF_CLOSE

    async def send(self, frame: GrpcFrame) -> None:
        assert isinstance(frame, bytes)
        await self._unless_over(self._call.write, frame)

    def send_now(self, frame: GrpcFrame) -> bool:
        """Return False: all frames go through `send`."""
        return False

    async def close(self, code: ErrorCode | None, reason: str = "") -> None:
        if not self._end_event:
            self.call_end = CallEnd(code, reason)
            self.hang_up()

    def abort(self) -> None:
        self.call_end = None
        self.hang_up()

    def hang_up(self) -> None:
        """End the call: the client cancelled it, its deadline passed, or the server ends it."""
        self._end_event = True
        for task in self._call_tasks - self._cancelled_tasks:
            self._cancelled_tasks.add(task)
            task.cancel()

    async def _unless_over(self, step: Callable[P, Awaitable[ResultT]], *args: P.args, **kwargs: P.kwargs) -> ResultT:
        """Return the step's result. Raises ConnectionError if the call ends first."""
        task = asyncio.current_task()
        assert task is not None
        if self._end_event:
            raise _over()
        self._call_tasks.add(task)
        try:
            return await step(*args, **kwargs)
        except asyncio.CancelledError:
            if task not in self._cancelled_tasks or task.uncancel():
                raise  # this task itself is cancelled
            raise _over() from None
        except grpc.aio.BaseError as error:
            raise _over() from error
        finally:
            self._call_tasks.discard(task)
            self._cancelled_tasks.discard(task)


def client_of(call: grpc.aio.ServicerContext[Any, Any], proxies: Proxies) -> str:
    """Return the address of the client of a call, which a trusted proxy names in its metadata."""
    peer = address(call.peer())
    if not proxies.trusts(peer):
        return peer
    metadata = call.invocation_metadata() or ()
    return proxies.client_of(
        peer, [value for key, value in metadata if key == proxies.header and isinstance(value, str)]
    )


def address(peer: str) -> str:
    """Return the address in gRPC's `ipv4:127.0.0.1:4711` or `ipv6:%5B::1%5D:4711`."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else peer


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()


def _over() -> ConnectionError:
    return ConnectionResetError("the call has ended")
