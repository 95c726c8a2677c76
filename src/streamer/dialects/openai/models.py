"""The list of models: `GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from aiohttp import web

from streamer.dialects.dialect import DialectContext
from streamer.dialects.openai.answers import CARRIERS, refused
from streamer.dialects.recordings import authenticate
from streamer.errors import StreamerError, brief
from streamer.protocols.openai.faults import INVALID_REQUEST, RequestFault, fault_body


class ListedModel(msgspec.Struct, frozen=True):
    """A served model. `created`: seconds since 1970, when the server began to serve it."""

    id: str
    created: int
    object: str = "model"
    owned_by: str = "streamer"


class ModelList(msgspec.Struct, frozen=True):
    """All models that return transcripts."""

    data: list[ListedModel]
    object: str = "list"


def model_routes(context: DialectContext) -> list[web.RouteDef]:
    """Return the routes of the list of models. They need the credential that a session needs."""
    created = int(context.door.wall_clock())
    listed = {model.name: ListedModel(model.name, created) for model in context.models}

    async def answer(request: web.Request, body: msgspec.Struct) -> web.Response:
        try:
            await authenticate(request, context.door, CARRIERS)
        except StreamerError as error:
            return refused(error)
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    async def list_all(request: web.Request) -> web.StreamResponse:
        return await answer(request, ModelList([*listed.values()]))

    async def describe(request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        response = await answer(request, listed.get(name, ModelList([])))
        if response.status != HTTPStatus.OK or name in listed:
            return response
        text = f"The model {brief(name)} does not exist: expected {' or '.join(listed)}, which is served here"
        fault = RequestFault(text, INVALID_REQUEST, "model_not_found", "model")
        return web.Response(body=fault_body(fault), status=HTTPStatus.NOT_FOUND, content_type="application/json")

    return [web.get("/v1/models", list_all), web.get("/v1/models/{id:.+}", describe)]
