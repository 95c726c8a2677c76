"""Calls that are no sessions (health checks, watchers of health, reflection): bounded in number and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, TypeAlias

import grpc.aio

from streamer.clock import Clock, timeout

MAX_WAITING = 100
"""Calls at a time whose only request has not come. One more takes the place of the oldest: a client that means it sends
its request at once, so a health check is answered beside any number of calls that never say what they ask."""
MAX_STREAMING = 200
"""Calls at a time that may have any number of requests, as reflection's have (health.py bounds its watchers itself)."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Call = grpc.aio.ServicerContext[Any, Any]


class AuxiliaryCalls(grpc.aio.ServerInterceptor):
    """Bound of all calls but those to one service, to which they have to leave room.

    gRPC itself waits for ever for the request of a call that has only one.
    """

    def __init__(self, service: str, clock: Clock, request_timeout_s: float) -> None:
        """`service`: the full name of the one that is not bounded here."""
        self._unbounded = f"/{service}/"
        self._clock = clock
        self._request_timeout_s = request_timeout_s
        self._waiting: dict[asyncio.Timeout, None] = {}
        """In the order in which they came."""
        self._streaming = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler of a call: as it is, or within the bounds."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(self._unbounded):
            return handler
        # On the wire, one message is a stream of one. gRPC would read it before it asks anybody.
        bounded: Handler = grpc.stream_stream_rpc_method_handler(
            partial(self._serve, handler), handler.request_deserializer, handler.response_serializer
        )
        return bounded

    async def _serve(self, handler: Any, requests: Any, call: Call) -> None:
        if not handler.request_streaming:
            await _answer(handler, await self._request(call), call)
            return
        if self._streaming >= MAX_STREAMING:
            text = f"the server has reached its limit of {MAX_STREAMING} streaming calls beside sessions"
            await call.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        self._streaming += 1
        try:
            await _answer(handler, requests, call)
        finally:
            self._streaming -= 1

    async def _request(self, call: Call) -> Any:
        """The only request of a call, which has its time, unless its place is needed."""
        if len(self._waiting) >= MAX_WAITING:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.reschedule(asyncio.get_running_loop().time())
        try:
            async with timeout(self._clock, self._request_timeout_s) as scope:
                self._waiting[scope] = None
                try:
                    request = await call.read()
                finally:
                    self._waiting.pop(scope, None)
        except TimeoutError:
            text = f"no request within {self._request_timeout_s:g} s, or too many calls wait for a request"
            await call.abort(grpc.StatusCode.DEADLINE_EXCEEDED, text)
        if request is grpc.aio.EOF:
            await call.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call ended without a request")
        return request


async def _answer(handler: Any, request: Any, call: Call) -> None:
    if not handler.response_streaming:
        method = handler.stream_unary if handler.request_streaming else handler.unary_unary
        await call.write(await method(request, call))
        return
    method = handler.stream_stream if handler.request_streaming else handler.unary_stream
    async with aclosing(method(request, call)) as responses:
        async for response in responses:
            await call.write(response)
