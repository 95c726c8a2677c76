"""The client library against a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from aiohttp import web

import streamer
from streamer.audio.format import AudioFormat, Encoding
from streamer.client import (
    Closed,
    ConnectFailed,
    ConnectionClosed,
    Error,
    Event,
    Finished,
    HandshakeRefused,
    ProtocolError,
    Segment,
    SpeechStarted,
    Stream,
    VadOverrides,
)
from streamer.client.dialects import V2ClientCodec
from streamer.client.websocket_transport import open_websocket
from streamer.errors import BadRequest, ErrorCode, InvalidFormat
from streamer.session.messages import Start
from tests.client.scripted import FINISHED, S16_V2, answering, close_without_a_code, serving, until_stop

V1, V2 = "/api/v1/segmented", "/api/v2/segmented"


async def everything(stream: Stream) -> list[Event]:
    return [event async for event in stream]


async def test_what_is_sent_arrives_and_what_is_told_is_typed() -> None:
    heard: list[object] = []

    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        heard.extend(await until_stop(socket))
        heard.append(request.headers.get("Authorization"))
        heard.append(request.headers.get("Sec-WebSocket-Protocol"))
        await socket.send_str('{"type":"speech_started","channel":0,"time":0.35}')
        await socket.send_str(
            '{"type":"segment","channel":0,"segment_id":1,"start_time":0.35,"end_time":2.1,"is_final":true,'
            '"output":{"text":"hi"}}'
        )
        await socket.send_str(FINISHED)

    async with (
        serving(script) as address,
        streamer.connect(
            address + V2,
            sample_rate=16_000,
            interim_results=True,
            vad=VadOverrides(redemption_time_ms=300),
            options={"beam": 5},
            metadata={"call": "42"},
            token="secret",
        ) as stream,
    ):
        await stream.send(b"\1\2\3")
        await stream.send(b"\4")
        await stream.flush("a")
        await stream.keepalive()
        await stream.stop()
        told = await everything(stream)
        assert (await stream.wait_closed()).code == 1000

    assert told == [
        SpeechStarted(0, 0.35),
        Segment(0, 1, 0.35, 2.1, True, {"text": "hi"}),
        Finished("stopped", 0, 0, 0, 0),
    ]
    assert heard == [
        [
            f'{{"type":"start","format":{S16_V2},"interim_results":true,"vad":{{"redemption_time_ms":300}},'
            '"metadata":{"call":"42"},"options":{"beam":5}}',
            '{"type":"flush","id":"a"}',
            '{"type":"keepalive"}',
            '{"type":"stop"}',
        ],
        b"\1\2\3\4",
        "Bearer secret",
        "streamer.v2",
    ]


async def test_v1_is_chosen_by_the_path_and_ends_with_the_close() -> None:
    heard: list[object] = []

    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        heard.extend(await until_stop(socket))
        await socket.send_str('{"type":"active","time":0.35,"channel":0}')
        await socket.send_str(
            '{"type":"segment","start_time":0.35,"end_time":2.1,"is_final":true,"count":28000,"channel":0}'
        )

    async with (
        serving(script) as address,
        streamer.connect(address + V1, format=AudioFormat(Encoding.PCM_F32LE, 44_100, 2)) as stream,
    ):
        await stream.send(b"\1\2")
        await stream.stop()
        assert await everything(stream) == [
            SpeechStarted(0, 0.35),
            Segment(0, 1, 0.35, 2.1, True, {"count": 28_000}),
        ]
    assert heard == [
        [
            '{"request":"start","trace_id":null,"format":{"channels":2,"sample_rate":44100,"bit_depth":32,'
            '"is_float":true},"interim_results":false}',
            '{"request":"stop","disconnect":true}',
        ],
        b"\1\2",
    ]


async def test_long_audio_is_cut_into_frames_that_a_server_takes() -> None:
    data, got = bytes(range(256)) * 4_000, []

    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.receive_str()
        await socket.send_str(
            '{"type":"started","session_id":"s","mode":"simple","model":{"name":"m","sample_rate":16000},'
            '"limits":{"max_audio_message_bytes":1000}}'
        )
        size = 0
        while size < 2 * len(data):
            got.append(await socket.receive_bytes())
            size += len(got[-1])
        await socket.send_str(FINISHED)

    async with serving(script) as address, streamer.connect(address + "/api/v2/simple") as stream:
        await stream.send(data)
        await anext(stream)
        await stream.send(data)
        await everything(stream)
    assert b"".join(got) == data + data
    assert max(map(len, got)) <= 32 * 1024
    assert len(got[-2]) == 1000


async def test_each_stream_of_a_kept_connection_is_one_loop() -> None:
    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        for _ in range(2):
            await until_stop(socket)
            await socket.send_str(FINISHED)

    async with serving(script) as address, streamer.connect(address + V2) as stream:
        await stream.stop(keep_open=True)
        assert await everything(stream) == [Finished("stopped", 0, 0, 0, 0)]
        await stream.send(b"12")
        await stream.stop()
        assert await everything(stream) == [Finished("stopped", 0, 0, 0, 0)]
        assert await everything(stream) == []


async def test_a_close_that_is_not_normal_raises_with_its_code_and_the_servers_words() -> None:
    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.send_str('{"type":"error","code":"too_fast","message":"slower","fatal":true,"retryable":true}')
        await socket.close(code=4429, message=b"too_fast")

    async with serving(script) as address, streamer.connect(address + V2) as stream:
        assert await anext(stream) == Error("too_fast", "slower", fatal=True, retryable=True)
        with pytest.raises(ConnectionClosed) as caught:
            await anext(stream)
        with pytest.raises(ConnectionClosed):
            await stream.send(b"12")
        with pytest.raises(ConnectionClosed):
            await anext(stream)
    error = caught.value
    assert (error.close_code, error.reason, error.code) == (4429, "too_fast", ErrorCode.TOO_FAST)
    assert str(error) == "the connection was closed (4429 too_fast): slower"
    assert error.retryable


async def test_a_lost_connection_is_not_a_normal_end() -> None:
    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.receive_str()
        assert request.transport is not None
        request.transport.abort()

    async with serving(script) as address, streamer.connect(address + V2) as stream:
        with pytest.raises(ConnectionClosed) as caught:
            await everything(stream)
    assert caught.value.close_code == 1006


@pytest.mark.parametrize("path", [V1, V2])
async def test_a_close_without_a_code_after_the_stop_is_the_normal_end(path: str) -> None:
    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        await until_stop(socket)
        close_without_a_code(request)

    async with serving(script) as address, streamer.connect(address + path) as stream:
        await stream.stop()
        assert await everything(stream) == []
        assert await stream.wait_closed() == Closed(1005)


async def no_stop(stream: Stream) -> None:
    pass


async def stop_and_keep_open(stream: Stream) -> None:
    await stream.stop(keep_open=True)


async def stop_and_start_again(stream: Stream) -> None:
    await stream.stop()
    await stream.start(Start(AudioFormat(Encoding.PCM_S16LE, 16_000, 1)))


@pytest.mark.parametrize("say", [no_stop, stop_and_keep_open, stop_and_start_again])
async def test_a_close_without_a_code_that_no_stop_asked_for_raises(say: Callable[[Stream], Awaitable[None]]) -> None:
    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        while (await socket.receive()).data != b"last":
            pass
        close_without_a_code(request)

    async with serving(script) as address, streamer.connect(address + V2) as stream:
        await say(stream)
        await stream.send(b"last")
        with pytest.raises(ConnectionClosed) as caught:
            await everything(stream)
    assert caught.value.close_code == 1005


async def test_a_connection_lost_after_the_stop_is_not_a_normal_end() -> None:
    """RFC 6455 7.1.5: without a close frame nobody knows whether more was to come."""

    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        await until_stop(socket)
        assert request.transport is not None
        request.transport.close()

    async with serving(script) as address, streamer.connect(address + V1) as stream:
        await stream.stop()
        with pytest.raises(ConnectionClosed) as caught:
            await everything(stream)
    assert caught.value.close_code == 1006


async def test_a_program_that_reads_later_answers_pings_meanwhile() -> None:
    answered = asyncio.Event()

    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.ping()
        await socket.send_str(FINISHED)
        socket._autoping = False  # type: ignore[attr-defined]
        while (await socket.receive()).type is not web.WSMsgType.PONG:
            pass
        answered.set()

    async with serving(script) as address, streamer.connect(address + V2) as stream:
        await answered.wait()
        assert len(await everything(stream)) == 1


async def test_leaving_early_closes_normally() -> None:
    ended = asyncio.get_running_loop().create_future()

    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.receive_str()
        await socket.receive()
        ended.set_result(socket.close_code)

    async with serving(script) as address:
        async with streamer.connect(address + V2):
            pass
        assert await ended == 1000


async def test_leaving_is_possible_with_more_events_than_anyone_will_read() -> None:
    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        for _ in range(5_000):
            await socket.send_str('{"type":"ack","received":1,"committed":1}')
        await socket.receive_str()

    async with serving(script) as address, streamer.connect(address + V2) as stream:
        assert await anext(stream)


UNREAD = 4_096
"""Events that a client keeps for a program that does not read them."""
ACK = '{"type":"ack","received":1,"committed":1}'
LONG = '{"type":"warning","code":"x","message":"' + "x" * 1_000 + '"}'


async def test_a_close_behind_more_events_than_are_kept_is_known_and_the_events_stay() -> None:
    """The last ones wait in the kernel's buffer, where reading has stopped, and the close behind them."""

    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.receive_str()
        for _ in range(UNREAD):
            await socket.send_str(ACK)
        for _ in range(150):
            await socket.send_str(LONG)
        assert request.transport is not None
        request.transport.write(b"\x88\x0a" + (4429).to_bytes(2) + b"too_fast")
        request.transport.close()

    async with serving(script) as address, streamer.connect(address + V2) as stream:
        async with asyncio.timeout(30):
            assert await stream.wait_closed() == Closed(4429, "too_fast")
        for _ in range(UNREAD + 150):
            await anext(stream)
        with pytest.raises(ConnectionClosed, match="4429 too_fast"):
            await anext(stream)


class Flood:
    """A link with always one event more, until its peer leaves."""

    def __init__(self) -> None:
        self.taken = 0
        self.asked = asyncio.Event()
        self.peer_left = False

    async def send_frame(self, frame: str | bytes) -> None:
        pass

    async def receive_frame(self) -> str | Closed:
        await asyncio.sleep(0)
        if self.peer_left:
            return Closed(4429, "too_fast")
        self.taken += 1
        return ACK

    def has_peer_disconnected(self) -> bool:
        self.asked.set()
        return self.peer_left

    async def close(self) -> Closed:
        return Closed(1000)


async def test_a_server_is_held_back_at_the_bound_and_goes_on_when_half_is_read() -> None:
    link = Flood()
    async with Stream.on_transport(link, V2ClientCodec()) as stream:
        for filled in (UNREAD, UNREAD + UNREAD // 2):
            await link.asked.wait()
            assert link.taken == filled
            link.asked.clear()
            for _ in range(UNREAD // 2):
                await anext(stream)
        await link.asked.wait()
        assert link.taken == 2 * UNREAD
        link.peer_left = True
        assert await stream.wait_closed() == Closed(4429, "too_fast")
        for _ in range(UNREAD):
            await anext(stream)
        with pytest.raises(ConnectionClosed, match="4429 too_fast"):
            await anext(stream)


async def test_leaving_ends_the_wait_for_a_connection_that_is_held_back_and_the_events_stay() -> None:
    link = Flood()
    async with Stream.on_transport(link, V2ClientCodec()) as stream:
        waiting = asyncio.create_task(stream.wait_closed())
        await link.asked.wait()
        assert not waiting.done()
    assert await waiting == Closed(1000)
    assert len(await everything(stream)) == link.taken == UNREAD
    assert await stream.receive() is None


async def test_leaving_while_events_come_closes_normally() -> None:
    """At whatever turn of the loop: with an event about to be received, with one received, between two of them."""
    came, ends = asyncio.Event(), asyncio.Queue[object]()

    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.receive_str()
        with suppress(ConnectionError):
            for _ in range(500):
                await socket.send_str(LONG)
                came.set()
                await asyncio.sleep(0)
        await socket.receive()
        ends.put_nowait(socket.close_code)

    async with serving(script) as address:
        for turns in range(50):
            came.clear()
            async with streamer.connect(address + V2) as stream:
                await came.wait()
                for _ in range(turns):
                    await asyncio.sleep(0)
            assert await ends.get() == 1000, turns
            assert await stream.wait_closed() == Closed(1000), turns


async def test_a_program_that_reads_late_is_given_everything() -> None:
    many = 3 * UNREAD

    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        for _ in range(many):
            await socket.send_str(LONG)

    async with serving(script) as address, streamer.connect(address + V2) as stream:
        assert len(await everything(stream)) == many


async def test_a_server_that_never_answers_the_close_and_never_stops_is_left_in_time() -> None:
    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        with suppress(ConnectionError):
            while True:
                await socket.send_str(LONG)

    async with (
        serving(script) as address,
        open_websocket(address + V2, dialect="v2", token=None, close_timeout_s=0.1) as link,
    ):
        assert await link.close() == Closed(1006)


async def test_events_of_a_newer_server_are_skipped() -> None:
    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.send_str('{"type":"mood","channel":0,"mood":"fine"}')
        await socket.send_str('{"type":"speech_started","channel":0,"time":0.35,"certainty":1}')
        await socket.send_str(FINISHED)

    async with serving(script) as address, streamer.connect(address + V2) as stream:
        assert await everything(stream) == [SpeechStarted(0, 0.35), Finished("stopped", 0, 0, 0, 0)]


@pytest.mark.parametrize("path", [V1, V2])
@pytest.mark.parametrize("frame", ["{", "[]", '{"type":"segment","channel":"x"}', '{"type":"error"}', "[" * 100_000])
async def test_a_server_that_talks_nonsense_is_named(path: str, frame: str) -> None:
    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.send_str(frame)
        await socket.receive_str()

    async with serving(script) as address, streamer.connect(address + path) as stream:
        with pytest.raises(ProtocolError) as caught:
            await everything(stream)
    assert len(str(caught.value)) < 300


async def test_a_server_that_is_not_there_is_one_line(unused_tcp_port: int) -> None:
    with pytest.raises(ConnectFailed) as caught:
        async with streamer.connect(f"ws://127.0.0.1:{unused_tcp_port}{V2}"):
            pass
    assert str(caught.value) == f"cannot reach ws://127.0.0.1:{unused_tcp_port}{V2}: connection refused"
    assert isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize(
    ("status", "headers", "code", "retry_after_s"),
    [
        (401, {}, ErrorCode.UNAUTHENTICATED, None),
        (403, {}, ErrorCode.FORBIDDEN, None),
        (404, {}, ErrorCode.BAD_REQUEST, None),
        (503, {"Retry-After": "3"}, ErrorCode.OVERLOADED, 3.0),
    ],
)
async def test_a_refused_handshake_names_its_status(
    status: int, headers: dict[str, str], code: ErrorCode, retry_after_s: float | None
) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers=headers)

    async with answering(refuse) as address:
        with pytest.raises(HandshakeRefused, match=f"HTTP {status}") as caught:
            async with streamer.connect(address + V2):
                pass
    assert (caught.value.status, caught.value.code, caught.value.retry_after_s) == (status, code, retry_after_s)


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ws://localhost/api/v3/simple", "ws:///api/v1/simple", "ftp://a/v1/simple"]
)
async def test_a_url_that_names_no_dialect_is_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="url: expected ws://HOST:PORT"):
        async with streamer.connect(url):
            pass


async def test_what_v1_cannot_say_is_refused_before_anyone_is_called() -> None:
    url = f"ws://127.0.0.1:1{V1}"
    for wrong in (
        streamer.connect(url, options={"a": 1}),
        streamer.connect(url, vad=VadOverrides(max_speech_time_ms=1)),
        streamer.connect(url, metadata={"a": "b"}),
        streamer.connect(url, chunk_ms=100),
    ):
        with pytest.raises(BadRequest, match="v1 does not support "):
            async with wrong:
                pass
    with pytest.raises(InvalidFormat, match="expected pcm_s16le or pcm_f32le on v1, got 'mulaw'"):
        async with streamer.connect(url, encoding="mulaw"):
            pass
    with pytest.raises(BadRequest, match="encoding: expected one of pcm_u8,"):
        async with streamer.connect(url, encoding="speex"):
            pass


async def test_v1_has_no_flush() -> None:
    async def script(socket: web.WebSocketResponse, request: web.Request) -> None:
        await until_stop(socket)

    async with serving(script) as address, streamer.connect(address + V1) as stream:
        with pytest.raises(BadRequest, match="v1 does not support flush"):
            await stream.flush()
        await stream.stop()
        assert await everything(stream) == []
