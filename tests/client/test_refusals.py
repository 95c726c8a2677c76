"""A refused handshake keeps the server's code, message and time; a refusal by another program keeps its status."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

import streamer
from streamer.access import mint, new_secret
from streamer.access.tokens import Claims, parse_secrets
from streamer.app import App
from streamer.client import HandshakeRefused
from streamer.errors import ErrorCode, Overloaded
from streamer.testing import ScriptedEngine
from tests.client.scripted import answering
from tests.transports.carriers import serving_all

PATH = "/api/v2/segmented"


async def refusal_by(url: str, token: str | None = None) -> HandshakeRefused:
    with pytest.raises(HandshakeRefused) as caught:
        async with streamer.connect(url, token=token):
            pass
    return caught.value


def drain(app: App) -> None:
    app.admission.draining = True


def be_full(app: App) -> None:
    assert isinstance(app.engine, ScriptedEngine)
    app.engine.refuse_admission = Overloaded("two batches are waiting", retry_after_s=1.5)


def serve(app: App) -> None:
    pass


@pytest.mark.parametrize(
    ("prepare", "code", "retryable", "retry_after_s"),
    [
        (serve, ErrorCode.TOKEN_EXPIRED, True, None),
        (drain, ErrorCode.DRAINING, True, None),
        (be_full, ErrorCode.OVERLOADED, True, 1.5),
    ],
    ids=["expired", "draining", "full"],
)
async def test_a_refusal_says_the_same_over_websocket_and_grpc(
    tmp_path: Path, prepare: Callable[[App], None], code: ErrorCode, retryable: bool, retry_after_s: float | None
) -> None:
    secret, now = new_secret(), time.time()
    (tmp_path / "secrets").write_text(secret)
    token = mint(Claims("bob", "1", now - 100, now - 50), parse_secrets(secret)[0])
    async with serving_all(access={"token_secrets_file": str(tmp_path / "secrets")}) as (app, _):
        prepare(app)
        assert app.grpc_url is not None
        refusals = [await refusal_by(url, token) for url in (app.url + PATH, app.grpc_url)]
    for refused in refusals:
        assert (refused.code, refused.retryable, refused.retry_after_s) == (code, retryable, retry_after_s)
    websocket, grpc = (refused.message.partition("(")[2] for refused in refusals)
    assert websocket == grpc  # the server's own message


async def refusal_of(status: int, body: bytes, **headers: str) -> HandshakeRefused:
    """What the client makes of an answer."""

    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    async with answering(refuse) as address:
        refused = await refusal_by(address + PATH)
    assert refused.status == status
    assert len(refused.message) < 1_000
    return refused


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body><h1>502 Bad Gateway</h1></body></html>",
        b"[]",
        b'"internal"',
        b'{"code":',
        b'{"code":5,"message":[]}',
        b'{"code":"internal","message":"it","retry_after_s":-1}',
        b"\xff\xfe",
        b"[" * 10_000,
        b'{"code":"internal","message":"' + b"x" * 2**22 + b'"}',
    ],
    ids=["none", "html", "list", "text", "cut", "types", "negative time", "no utf-8", "deep", "huge"],
)
async def test_a_body_that_is_not_ours_leaves_the_status_and_its_reason(body: bytes) -> None:
    refused = await refusal_of(502, body)
    assert refused.message.endswith("refused the connection: HTTP 502 (Bad Gateway)")
    assert (refused.code, refused.retryable, refused.retry_after_s) == (ErrorCode.INTERNAL, True, None)


async def test_a_refusal_that_a_proxy_compressed_is_read() -> None:
    body = gzip.compress(json.dumps({"code": "draining", "message": "the server is draining"}).encode())
    refused = await refusal_of(503, body, **{"Content-Encoding": "gzip"})
    assert refused.code is ErrorCode.DRAINING


async def test_a_body_that_cannot_be_decompressed_leaves_the_status_and_its_reason() -> None:
    refused = await refusal_of(503, b"no gzip", **{"Content-Encoding": "gzip", "Retry-After": "3"})
    assert (refused.code, refused.retry_after_s) == (ErrorCode.OVERLOADED, 3.0)


@pytest.mark.parametrize("retryable", [True, False])
async def test_a_code_of_a_newer_server_keeps_what_it_says_of_trying_again(retryable: bool) -> None:
    body = json.dumps({"code": "too_hot", "message": "cool down", "retryable": retryable, "retry_after_s": 0.5})
    refused = await refusal_of(403, body.encode())
    assert (refused.code, refused.retryable, refused.retry_after_s) == (ErrorCode.FORBIDDEN, retryable, 0.5)
    assert refused.message.endswith("HTTP 403 (cool down)")


async def test_a_body_that_never_ends_leaves_the_status_and_its_reason() -> None:
    release = asyncio.Event()

    async def refuse(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=503)
        response.content_length = 100
        await response.prepare(request)
        await response.write(b'{"code":"draining"')
        await release.wait()
        return response

    async with answering(refuse) as address:
        refused = await refusal_by(address + PATH)
        release.set()
    assert refused.message.endswith("HTTP 503 (Service Unavailable)")
    assert refused.code is ErrorCode.OVERLOADED
