"""Row 31 of the fault table over every other service's protocol: wrong tokens of every kind, and a foreign origin.

A protocol without credentials is open to networks (Wyoming, AudioSocket) or to signed requests (Twilio).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from streamer.clock import PauseAwareClock
from streamer.parts import AppParts
from streamer.protocols.twilio import signature_of
from streamer.testing import ManualClock
from tests.dialects.fault_peers import PATIENCE_S, SocketPeer, TwilioPeer
from tests.dialects.fault_stage import Answer, FaultStage, ends, fault_stage, over, stays
from tests.dialects.recogniser import recogniser
from tests.faults.gates import FOREIGN, KEPT, KEY, PAGE, SECRET_LINE, WRONG, bearer, token

Options = Mapping[str, Any]
Carrier = Callable[[str], Options]

HEADERS: Mapping[str, Carrier] = {
    "bearer": lambda secret: {"headers": bearer(secret)},
    "token scheme": lambda secret: {"headers": {"Authorization": f"Token {secret}"}},
    "no scheme": lambda secret: {"headers": {"Authorization": secret}},
    "api-key": lambda secret: {"headers": {"api-key": secret}},
    "pair": lambda secret: {"protocols": ("token", secret)},
    "prefix": lambda secret: {"protocols": ("realtime", f"openai-insecure-api-key.{secret}")},
    "access_token": lambda secret: {"access_token": secret},
    "token": lambda secret: {"token": secret},
    "jwt": lambda secret: {"jwt": secret},
}
CARRIED: Mapping[str, tuple[str, ...]] = {
    "deepgram": ("token scheme", "bearer", "pair"),
    "flux": ("token scheme", "bearer", "pair"),
    "realtime": ("bearer", "api-key", "prefix"),
    "vosk": ("bearer", "access_token"),
    "assemblyai": ("no scheme", "bearer", "token"),
    "speechmatics": ("bearer", "jwt"),
}
"""The ways in which the clients of each protocol carry their key."""
by_each_carrier = pytest.mark.parametrize(
    ("name", "carrier"), [(name, carrier) for name, carriers in CARRIED.items() for carrier in carriers]
)


def code_of(name: str, body: str) -> str:
    """Return the code of a refusal in the form of its protocol; of AssemblyAI, which has none, `text` for a text."""
    content = json.loads(body)
    match name:
        case "deepgram" | "flux":
            return str(content["err_code"])
        case "realtime":
            return str(content["error"]["code"])
        case "assemblyai":
            return "text" if content["error"] else ""
        case _:
            return str(content["code"])


REFUSED = {
    "deepgram": "INVALID_AUTH",
    "flux": "INVALID_AUTH",
    "realtime": "invalid_api_key",
    "vosk": "unauthenticated",
    "assemblyai": "text",
    "speechmatics": "unauthenticated",
}
"""The code that a client without a valid key is told."""
REPLAYED = {**REFUSED, **dict.fromkeys(("realtime", "vosk", "speechmatics"), "token_replayed")}
EXPIRED = {**REFUSED, **dict.fromkeys(("realtime", "vosk", "speechmatics"), "token_expired")}


@asynccontextmanager
async def asking(name: str, folder: Path, parts: AppParts | None = None, **sections: Any) -> AsyncIterator[FaultStage]:
    """A server that asks who connects; the stream beside has a key."""
    secrets = folder / "secrets"
    secrets.write_text(SECRET_LINE)
    access = {"keys": [str(KEPT)], "token_secrets_file": str(secrets), "origins": [PAGE]}
    async with fault_stage(name, parts, healthy={"headers": bearer(KEY)}, access=access, **sections) as stage:
        yield stage


async def refusal(stage: FaultStage, options: Options) -> tuple[int, str]:
    """Return the status and the body of the answer to a handshake."""
    peer = stage.peer_type
    assert issubclass(peer, SocketPeer)
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    headers |= {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} | options.get("headers", {})
    if protocols := options.get("protocols"):
        headers["Sec-WebSocket-Protocol"] = ", ".join(protocols)
    query = {name: value for name, value in options.items() if name not in ("headers", "protocols")}
    url, params = stage.app.url + peer.path, {**peer.query, **query}
    async with aiohttp.ClientSession() as http, http.get(url, params=params, headers=headers) as response:
        return response.status, await response.text()


@by_each_carrier
async def test_a_good_token_streams_once(name: str, carrier: str, tmp_path: Path) -> None:
    carry = HEADERS[carrier]
    async with asking(name, tmp_path) as stage, stage.beside():
        once = carry(token(once=True))
        async with stage.connected(**once) as peer:
            await peer.start()
            await stage.still_works(peer, stays())
        status, body = await refusal(stage, once)
        assert (status, code_of(name, body)) == (401, REPLAYED[name])


@by_each_carrier
async def test_no_wrong_or_expired_token_connects_or_is_logged(
    name: str, carrier: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    carry = HEADERS[carrier]
    expired = token(age=61, once=True)
    secrets = (expired, token(WRONG), "sk_wrong", "nonsense", "")
    async with asking(name, tmp_path) as stage, stage.beside():
        for secret in (None, *secrets):
            status, body = await refusal(stage, {} if secret is None else carry(secret))
            assert (status, code_of(name, body)) == (401, (EXPIRED if secret == expired else REFUSED)[name])
            assert not any(secret and secret in body for secret in secrets)
    logged = "\n".join(record.getMessage() + str(record.args) for record in caplog.records)
    assert not any(secret and secret in logged for secret in secrets)


@pytest.mark.parametrize(
    ("name", "carrier"), [("vosk", "access_token"), ("assemblyai", "token"), ("speechmatics", "jwt")]
)
async def test_a_key_or_a_token_that_works_often_may_not_travel_in_the_address(
    name: str, carrier: str, tmp_path: Path
) -> None:
    async with asking(name, tmp_path) as stage, stage.beside():
        for secret in (KEY, token()):
            status, body = await refusal(stage, HEADERS[carrier](secret))
            assert status == 403
            assert secret not in body


@pytest.mark.parametrize("name", CARRIED)
async def test_a_foreign_origin_is_refused_whatever_its_token(name: str, tmp_path: Path) -> None:
    async with asking(name, tmp_path) as stage, stage.beside():
        status, _ = await refusal(stage, {"headers": {**bearer(KEY), "Origin": FOREIGN}})
        assert status == 403
        async with stage.connected(headers={**bearer(KEY), "Origin": PAGE}) as peer:
            await peer.start()
            await stage.still_works(peer, stays())


@over(
    deepgram=ends(1008, "TokenExpired"),
    flux=ends(1008, "TOKEN_EXPIRED"),
    realtime=ends(1001, "token_expired"),
    vosk=ends(1008),
    assemblyai=ends(3008, "3008"),
    speechmatics=ends(4001, "not_authorised"),
)
async def test_a_token_that_expires_in_mid_stream_ends_it(name: str, answer: Answer, tmp_path: Path) -> None:
    clock = ManualClock()
    parts = replace(recogniser(), clock=PauseAwareClock(clock))
    patient = {"idle_timeout_s": 3_600.0, "start_timeout_s": 3_600.0}
    async with (
        asking(name, tmp_path, parts, limits=patient) as stage,
        stage.beside(),
        stage.connected(headers=bearer(token(ttl=60))) as peer,
    ):
        await peer.start()
        answered = asyncio.create_task(stage.answers(peer, answer))
        while not answered.done():
            clock.advance(61)
            await asyncio.sleep(0.001)
        await answered


# Twilio, Wyoming and AudioSocket ------------------------------------------------------------------------


async def test_only_twilios_signature_of_this_address_connects(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("12345\n")

    def signed(stage: FaultStage, secret: bytes = b"12345", path: str = TwilioPeer.path) -> str:
        return signature_of(secret, f"wss://127.0.0.1:{stage.app.port}{path}")

    dialects = {"calls_twilio_token_file": str(file), "calls_audiosocket_port": 0}
    async with fault_stage("twilio", access={"keys": [str(KEPT)]}, dialects=dialects, warms_up=False) as stage:
        stage.healthy = {"headers": {"X-Twilio-Signature": signed(stage)}}
        async with stage.beside():
            wrong = ("", "AAAA", "\u00e9", signed(stage, b"54321"), signed(stage, path="/v1/calls/other"))
            for headers in ({}, bearer(KEY), *({"X-Twilio-Signature": each} for each in wrong)):
                status, body = await refusal(stage, {"headers": headers})
                assert (status, json.loads(body)["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("name", ["wyoming", "audiosocket"])
async def test_a_connection_of_another_network_is_closed_unread(name: str) -> None:
    setting = {"wyoming": "wyoming_peers", "audiosocket": "calls_peers"}[name]
    networks = {setting: ("10.0.0.0/8",)}
    async with fault_stage(name, dialects=networks, warms_up=False) as stage, stage.connected() as peer:
        async with asyncio.timeout(PATIENCE_S):
            assert await peer.reader.read() == b""
