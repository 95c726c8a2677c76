"""Headers of an upgrade that are not ASCII: those of no concern change nothing, and the others are a bad request."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.transports.serving import serving

UPGRADE = (
    b"GET /api/v2/simple HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n\r\n"
)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"X-Name: \xff\xfe", 101),  # no UTF-8
        ("X-Name: \u4e2d\u6587".encode(), 101),
        ("Cookie: city=M\u00fcnchen".encode("latin-1"), 101),
        ("X-Request-ID: \u4e2d".encode(), 101),
        (b"Sec-WebSocket-Protocol: \xff", 400),
        ("Sec-WebSocket-Extensions: \u4e2d".encode(), 400),
    ],
    ids=str,
)
async def test_a_header_that_is_not_ascii_is_never_an_error_of_the_server(
    header: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as app:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        writer.write(UPGRADE % header)
        async with asyncio.timeout(20):
            line = await reader.readline()
        writer.close()
        assert line.startswith(b"HTTP/1.1 %d " % status)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
