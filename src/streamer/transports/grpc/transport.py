"""One gRPC call as a transport. A frame is a serialized message, which is not interpreted here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar
from urllib.parse import unquote

import grpc.aio

from streamer.access import Proxies
from streamer.errors import ErrorCode
from streamer.protocols.grpc import Frame, HalfClose
from streamer.runtime.transport import Ear

Call = grpc.aio.ServicerContext[bytes, bytes]
P = ParamSpec("P")
ResultT = TypeVar("ResultT")

ACCEPTED = (("streamer-protocol", "streamer.v2"),)
"""Initial metadata of an accepted call; a refusal is a status without it."""
_MOMENT_S = 0.01
"""Time in seconds to wait for a cancellation after the EOF of a call; a few milliseconds were measured."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Status by which the server ends a call."""

    code: ErrorCode | None
    reason: str


class GrpcTransport:
    """One accepted call; implements `runtime.transport.Transport`.

    A call ends when its handler returns, so `close` and `abort` only store how, and wake the tasks that wait for the
    call.
    """

    name = "grpc"

    def __init__(self, call: Call, proxies: Proxies | None = None) -> None:
        """Wrap a call. `proxies`: trusted ones."""
        self._call = call
        self.peer = client_of(call, proxies or Proxies())
        self.signs = 0
        """Always 0: gRPC answers HTTP/2 pings itself. A silent client sends `keepalive`."""
        self.ending: Ending | None = None
        """None if the client disconnected or was cut off."""
        self.audio_s = 0.0
        """Seconds of audio that the call sent, once it is over."""
        self._over = False
        self._half_closed = False
        self._unread: Frame | None = None
        self._accepted = False
        self._waiting: set[asyncio.Task[Any]] = set()
        self._woken: set[asyncio.Task[Any]] = set()

    async def accept(self) -> None:
        """Send the initial metadata, once; without it, the client would receive nothing before the first event.

        Raises ConnectionError if the client has disconnected.
        """
        if not self._accepted:
            self._accepted = True
            await self._unless_over(self._call.send_initial_metadata, ACCEPTED)

    def unread(self, frame: Frame) -> None:
        """Return a frame to the front of the receive queue."""
        self._unread = frame

    def hand_over(self, ear: Ear[Frame] | None) -> None:
        """Do nothing: all frames go through `receive`."""

    async def receive(self) -> Frame | None:
        if self._unread is not None:
            frame, self._unread = self._unread, None
            return frame
        try:
            if self._half_closed:
                await self._unless_over(_forever)
            came: object = await self._unless_over(self._call.read)
        except ConnectionError:
            return None
        if isinstance(came, bytes):
            return came
        return await self._last_word()

    async def _last_word(self) -> Frame | None:
        """Return the frame after gRPC's EOF, which means a half-close, or a cancellation that follows in a moment."""
        self._half_closed = True
        try:
            await self._unless_over(asyncio.sleep, _MOMENT_S)
        except ConnectionError:
            return None
        return HalfClose.HALF_CLOSE

    async def send(self, frame: Frame) -> None:
        assert isinstance(frame, bytes)
        await self._unless_over(self._call.write, frame)

    def send_now(self, frame: Frame) -> bool:
        """Return False: all frames go through `send`."""
        return False

    async def close(self, code: ErrorCode | None, reason: str = "") -> None:
        if not self._over:
            self.ending = Ending(code, reason)
            self.hang_up()

    def abort(self) -> None:
        self.ending = None
        self.hang_up()

    def hang_up(self) -> None:
        """End the call: the client cancelled it, its deadline passed, or the server ends it."""
        self._over = True
        for task in self._waiting - self._woken:
            self._woken.add(task)
            task.cancel()

    async def _unless_over(self, step: Callable[P, Awaitable[ResultT]], *args: P.args, **kwargs: P.kwargs) -> ResultT:
        """Return the step's result. Raises ConnectionError if the call ends first."""
        task = asyncio.current_task()
        assert task is not None
        if self._over:
            raise _over()
        self._waiting.add(task)
        try:
            return await step(*args, **kwargs)
        except asyncio.CancelledError:
            if task not in self._woken or task.uncancel():
                raise  # this task itself is cancelled
            raise _over() from None
        except grpc.aio.BaseError as error:
            raise _over() from error
        finally:
            self._waiting.discard(task)
            self._woken.discard(task)


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
