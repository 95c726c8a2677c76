"""Limits of calls that are not sessions (health, reflection), in number and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, TypeAlias

import grpc.aio

from streamer.clock import Clock, timeout

MAX_WAITING = 100
"""Concurrent calls whose only request has not arrived. One more replaces the oldest: a real client sends its request at
once, so health checks are answered beside any number of silent calls."""
MAX_STREAMING = 200
"""Concurrent calls with any number of requests, such as reflection (health.py limits its own watches)."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
AnyRpcContext = grpc.aio.ServicerContext[Any, Any]


class AuxiliaryLimiter(grpc.aio.ServerInterceptor):
    """Limits all calls except those of one service, for which capacity must remain.

    gRPC itself waits forever for the request of a call that has only one.
    """

    def __init__(self, service: str, clock: Clock, request_timeout_s: float) -> None:
        """Create the limiter. `service`: full name of the service that is not limited here."""
        self._unbounded = f"/{service}/"
        self._clock = clock
        self._request_timeout_s = request_timeout_s
        self._waiting: dict[asyncio.Timeout, None] = {}
        """In the order of arrival."""
        self._streaming = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler of a call: unchanged, or with the limits."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(self._unbounded):
            return handler
        # On the wire, one message is a stream of one. gRPC would read it before calling the handler.
        bounded: Handler = grpc.stream_stream_rpc_method_handler(
            partial(self._serve, handler), handler.request_deserializer, handler.response_serializer
        )
        return bounded

    async def _serve(self, handler: Any, requests: Any, call: AnyRpcContext) -> None:
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

    async def _request(self, call: AnyRpcContext) -> Any:
        """Return the only request of a call, within its time-out, unless a newer call replaces it."""
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


async def _answer(handler: Any, request: Any, call: AnyRpcContext) -> None:
    if not handler.response_streaming:
        method = handler.stream_unary if handler.request_streaming else handler.unary_unary
        await call.write(await method(request, call))
        return
    method = handler.stream_stream if handler.request_streaming else handler.unary_stream
    async with aclosing(method(request, call)) as responses:
        async for response in responses:
            await call.write(response)
