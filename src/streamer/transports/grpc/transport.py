"""One gRPC call as a connection. Nothing is interpreted: a frame is a message as it was serialized."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar
from urllib.parse import unquote

import grpc.aio

from streamer.errors import ErrorCode
from streamer.protocols.grpc import Frame, HalfClose
from streamer.runtime.transport import Ear

Call = grpc.aio.ServicerContext[bytes, bytes]
P = ParamSpec("P")
ResultT = TypeVar("ResultT")

ACCEPTED = (("streamer-protocol", "streamer.v2"),)
"""In the initial metadata of a call that was taken on; a refusal is a status without it."""
_MOMENT_S = 0.01
"""A few milliseconds were seen between the EOF of a cancelled call and the cancellation."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the server ends a call."""

    code: ErrorCode | None
    reason: str


class GrpcTransport:
    """One accepted call; a `runtime.transport.Transport`.

    A call ends when its handler returns, so `close` and `abort` only say how, and wake whoever waits on the call.
    """

    name = "grpc"

    def __init__(self, call: Call) -> None:
        self._call = call
        self.peer = address(call.peer())
        self.signs = 0
        """Pings of HTTP/2 are answered below us and never seen; a client that is silent sends `keepalive`."""
        self.ending: Ending | None = None
        """None: the client went first, or was cut off."""
        self.audio_s = 0.0
        """Seconds of audio that came of the call, once it is over."""
        self._over = False
        self._half_closed = False
        self._unread: Frame | None = None
        self._accepted = False
        self._waiting: set[asyncio.Task[Any]] = set()
        self._woken: set[asyncio.Task[Any]] = set()

    async def accept(self) -> None:
        """Tell the client that somebody listens, once: without it, it hears nothing before the first event.

        Raises ConnectionError when the client is gone.
        """
        if not self._accepted:
            self._accepted = True
            await self._unless_over(self._call.send_initial_metadata, ACCEPTED)

    def unread(self, frame: Frame) -> None:
        """Have a frame received again."""
        self._unread = frame

    def hand_over(self, ear: Ear[Frame] | None) -> None:
        """Everything goes through `receive`."""

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
        """After gRPC's EOF: a half-close, or a call that was cancelled, of which it tells the same a moment earlier."""
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
        """Everything goes through `send`."""
        return False

    async def close(self, code: ErrorCode | None, reason: str = "") -> None:
        if not self._over:
            self.ending = Ending(code, reason)
            self.hang_up()

    def abort(self) -> None:
        self.ending = None
        self.hang_up()

    def hang_up(self) -> None:
        """The call is over: the client cancelled it, its deadline passed, or we end it."""
        self._over = True
        for task in self._waiting - self._woken:
            self._woken.add(task)
            task.cancel()

    async def _unless_over(self, step: Callable[P, Awaitable[ResultT]], *args: P.args, **kwargs: P.kwargs) -> ResultT:
        """The step's result. Raises ConnectionError where the call ends first."""
        task = asyncio.current_task()
        assert task is not None
        if self._over:
            raise _over()
        self._waiting.add(task)
        try:
            return await step(*args, **kwargs)
        except asyncio.CancelledError:
            if task not in self._woken or task.uncancel():
                raise  # somebody else cancels
            raise _over() from None
        except grpc.aio.BaseError as error:
            raise _over() from error
        finally:
            self._waiting.discard(task)
            self._woken.discard(task)


def address(peer: str) -> str:
    """The address alone, of gRPC's `ipv4:127.0.0.1:4711` or `ipv6:%5B::1%5D:4711`, as the other transports name it."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else peer


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()


def _over() -> ConnectionError:
    return ConnectionResetError("the call has ended")
