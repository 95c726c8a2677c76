"""Requires a credential for health and reflection, depending on the settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc.aio
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from streamer.access import Authenticator, Proxies, extract_credential
from streamer.config import AccessSettings
from streamer.errors import StreamerError
from streamer.telemetry.observer import Observer
from streamer.transports.grpc.status import refuse
from streamer.transports.grpc.transport import GrpcTransport, RpcContext, client_of

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"

SERVICES = {"health": health.SERVICE_NAME, "reflection": reflection.SERVICE_NAME}
"""Full names of services by their words in `access.anonymous`."""
_KINDS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
"""Factory of a handler, by whether its requests and its responses are streams."""


class AccessInterceptor(grpc.aio.ServerInterceptor):
    """Requires a credential for some services. Other services authenticate by themselves."""

    def __init__(
        self, authenticator: Authenticator, settings: AccessSettings, observer: Observer, proxies: Proxies
    ) -> None:
        self._authenticator = authenticator
        self._proxies = proxies
        self._observer = observer
        guarded = SERVICES.keys() - set(settings.anonymous) if authenticator.required else ()
        self.services = frozenset(SERVICES[word] for word in guarded)
        """Full names of the services that need a credential."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        handler: Handler | None = await continuation(handler_call_details)
        service = handler_call_details.method.rpartition("/")[0].removeprefix("/")
        if handler is None or service not in self.services:
            return handler
        metadata = dict(handler_call_details.invocation_metadata)
        authorization = metadata.get("authorization")
        try:
            await self._authenticator.verify(
                extract_credential(authorization if isinstance(authorization, str) else None, (), None)
            )
        except StreamerError as error:
            return self._refusing_handler(handler, error)
        return handler

    def _refusing_handler(self, handler: Handler, error: StreamerError) -> Handler:
        """Return a handler of the same kind that answers with the error."""

        async def answer(_: object, call: RpcContext) -> None:
            self._observer.on_refused(GrpcTransport.name, error.code, client_of(call, self._proxies))
            await refuse(call, error)

        return _KINDS[handler.request_streaming, handler.response_streaming](answer)
