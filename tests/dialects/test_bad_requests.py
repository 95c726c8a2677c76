"""Row 18 of the fault table before the upgrade: addresses and headers that are not text, over every other protocol."""

from __future__ import annotations

import asyncio

import pytest

from tests.dialects.fault_peers import PATIENCE_S
from tests.dialects.fault_stage import FaultStage, fault_stage

RAW = "encoding=linear16&sample_rate=16000"
TARGETS = {
    "deepgram": {f"/v1/listen?{RAW}&keyterm=%ff%ed%a0%80&language=%ff": 101, f"/v1/listen?{RAW}&%ff=%00&%0d%0a=1": 101},
    "flux": {f"/v2/listen?{RAW}&keyterm=%ff": 101, f"/v2/listen?{RAW}&eot_threshold=%ff": 400},
    "realtime": {"/v1/realtime?model=%ff&%ff=%ff": 101, "/v1/realtime?call_id=%ff": 400},
    "vosk": {"/?%ff=%ff": 101},
    "assemblyai": {
        "/v3/ws?sample_rate=16000&prompt=%ed%a0%80&%ff=1": 101,
        "/v3/ws?sample_rate=16000&language_codes=[%22%ff%22]": 101,
        "/v3/ws?sample_rate=16000&language_codes=%ff": 400,
        "/v3/ws?sample_rate=%ff": 400,
    },
    "speechmatics": {"/v2/%ff": 101, "/v2/%00%22": 101, "/v2/en?%ff=%ff": 101},
    "twilio": {"/v1/calls/twilio?%ff=%ff": 101},
}
"""Addresses, each with the status of its answer: without effect a parameter is ignored."""
NO_CONCERN = (
    b"",
    b"X-Name: \xff\xfe",
    b"Cookie: a=\xe4\xb8\xad",
    b"X-Twilio-Signature: \xff",
    b"Authorization: Token \xff",
)


async def status(stage: FaultStage, target: bytes, header: bytes) -> int:
    """Return the status of the answer to a handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.app.port)
    writer.write(
        b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%s\r\n"
        % (target, header + b"\r\n" if header else b"")
    )
    async with asyncio.timeout(PATIENCE_S):
        line = await reader.readline()
    writer.close()
    return int(line.split()[1])


@pytest.mark.parametrize("name", TARGETS)
async def test_an_address_or_header_that_is_not_utf_8_is_read_or_refused(name: str) -> None:
    async with fault_stage(name) as stage, stage.beside():
        for target, expected in TARGETS[name].items():
            for header in NO_CONCERN:
                assert (target, header, await status(stage, target.encode(), header)) == (target, header, expected)
            assert await status(stage, target.encode(), b"Sec-WebSocket-Protocol: token, \xff") == 400
            assert await status(stage, target.encode() + b"\xff", b"") == 400
