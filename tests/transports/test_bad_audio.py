"""Each kind of bad audio, over real sockets and each transport: one error, which names what came and what to do."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import pytest

import streamer
from streamer.app import App, GrpcAvailability
from streamer.client.errors import ConnectionClosed
from streamer.client.events import Error, Event, Finished
from streamer.config import Settings
from streamer.errors import ErrorCode
from streamer.media import libav
from streamer.media.formats import Container, MediaFormat
from streamer.media.ogg import OggDemuxer
from streamer.media.packets import Packet
from tests.media.material import FILES, flac_of_silence, ogg_opus, read
from tests.transports.serving import scripted
from tests.transports.test_compressed import AUTO, heard, said, url_of
from tests.transports.test_upload import in_pieces, posted

RAW_OPUS = MediaFormat(Container.OPUS)
FORMAT, AUDIO = ErrorCode.INVALID_FORMAT, ErrorCode.INVALID_AUDIO


@dataclass(frozen=True)
class Fault:
    """Audio that cannot be served, and the error: its code, and a part of its message."""

    data: bytes
    code: ErrorCode
    text: str
    form: MediaFormat = AUTO
    is_live: bool = True
    """Whether it is a fault in a live stream."""
    is_posted: bool = True
    """Whether it is a fault of a file by POST."""


FAULTS = {
    "text": Fault(b'{"type":"flush"}' * 100, FORMAT, "text: '{\"type\":\"flu'"),
    "zeros": Fault(bytes(64), FORMAT, "all zeros; PCM has to be declared"),
    "bytes of no known beginning": Fault(bytes(range(40, 120)), FORMAT, "expected audio that begins as Ogg"),
    "another container than declared": Fault(read("opus.ogg"), FORMAT, "got ogg", MediaFormat(Container.WEBM)),
    "a container instead of raw packets": Fault(read("opus.ogg"), FORMAT, "got ogg", RAW_OPUS, is_posted=False),
    "a container instead of raw bytes": Fault(read("opus.ogg"), FORMAT, "got ogg", MediaFormat(Container.G722)),
    "a container that is not served": Fault(read("aac.ts"), FORMAT, "MPEG-TS"),
    "a codec that is not served": Fault(read("vorbis.ogg"), FORMAT, "expected Opus or FLAC, got Vorbis"),
    "PCM of a kind that is not served": Fault(
        read("mulaw.wav").replace(b"\x07\0", b"\x02\0", 1), FORMAT, "format tag 2"
    ),
    "what crashes PyAV": Fault(read("aac_71_crashes_pyav18.aac"), FORMAT, "at most 7 channels, got 8"),
    "what crashes miniaudio": Fault(read("crash_miniaudio_1.71.bin"), FORMAT, "got Vorbis"),
    "no audio track": Fault(
        read("video_opus.webm").replace(b"\x83\x81\x02", b"\x83\x81\x11"), FORMAT, "WebM: expected an audio track"
    ),
    "an index behind the audio": Fault(read("aac_moovend.m4a"), FORMAT, "faststart", is_posted=False),
    "a broken structure": Fault(read("opus.webm")[:600] + bytes(100), AUDIO, "no EBML element at byte"),
    "a header that is cut": Fault(read("aac_moovend.m4a")[:-200], AUDIO, "it ends before its index", is_live=False),
    "an end before any audio": Fault(b"fLaC\x00\x00\x00\x22" + bytes(8), AUDIO, "FLAC: it ends before"),
    "a sync that is lost": Fault(read("opus.ogg")[:5_000] + b"x" * 200_000, AUDIO, "no page in 131072 bytes"),
    "an index beyond its bound": Fault(
        b"\0\0\0\x10ftypM4A \0\0\0\0\x7f\0\0\0moov", AUDIO, "expected moov of at most 262144 bytes, got 2130706432",
        is_posted=False,
    ),
    "an uploaded index beyond its bound": Fault(
        b"\0\0\0\x10ftypM4A \0\0\0\0\x7f\0\0\0moov", AUDIO, "expected moov of at most 8388608 bytes, got 2130706432",
        is_live=False,
    ),
    "a bomb of FLAC with eight channels": Fault(flac_of_silence(300), AUDIO, "expected at least 250 bit/s"),
    "a bomb of FLAC": Fault(flac_of_silence(300, channels=1), AUDIO, "expected at least 250 bit/s"),
    "a bomb of Opus": Fault(ogg_opus(bytes([11 << 3 | 3, 2]), 20), AUDIO, "expected at least 250 bit/s"),
    "a bomb of Opus in stereo": Fault(ogg_opus(bytes([28 << 3 | 7, 48]), 20, 2), AUDIO, "expected at least 250 bit/s"),
}  # fmt: skip


async def refusals(app: App, fault: Fault) -> list[tuple[str, str]]:
    """The error's code and message, on each transport."""
    out = []
    if fault.is_live:
        out += [_fatal(await said(app, fault.data, fault.form)), _fatal(await called(app, fault.data, fault.form))]
    if fault.is_posted:
        path = f"/api/v2/simple?encoding={fault.form.container}"
        status, events = await posted(app, in_pieces(fault.data), path)
        assert status == 400 or (events[-1]["type"], events[-1]["fatal"]) == ("error", True)
        out.append((events[-1]["code"], events[-1]["message"]))
    return out


def _fatal(events: list[Event]) -> tuple[str, str]:
    [error] = [event for event in events if isinstance(event, Error)]
    assert error is events[-1]
    assert error.fatal
    return error.code, error.message


async def called(app: App, data: bytes, form: MediaFormat) -> list[Event]:
    """Stream over gRPC, and return all events."""
    assert app.grpc_url is not None
    async with streamer.connect(app.grpc_url, format=form, mode="simple", chunk_ms=500) as stream:
        try:
            for at in range(0, len(data), 4_000):
                await stream.send(data[at : at + 4_000])
            await stream.stop()
        except ConnectionClosed:
            pass
        return await heard(stream)


def everywhere(**sections: Any) -> App:
    """A server of WebSocket, POST and gRPC."""
    return App(
        Settings(server={"port": 0}, grpc={"port": -1}, **sections), parts=scripted(), grpc=GrpcAvailability.REQUIRED
    )


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_has_one_error_on_each_transport(name: str) -> None:
    fault = FAULTS[name]
    async with everywhere() as app:
        refused = await refusals(app, fault)
    assert refused
    for code, message in refused:
        assert code == fault.code
        assert fault.text in message
        assert len(message) < 300


async def test_a_codec_whose_library_is_missing_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    libav.load_av.cache_clear()
    try:
        async with everywhere() as app:
            refused = await refusals(app, Fault(read("aac.aac"), FORMAT, ""))
    finally:
        libav.load_av.cache_clear()
    assert set(refused) == {
        (FORMAT, "AAC: expected PyAV, which is not installed here: pip install 'streamer-audio[av]'"),
    }


async def test_a_container_that_the_operator_left_out_is_refused() -> None:
    async with everywhere(audio={"formats": ["wav", "flac"]}) as app:
        refused = await refusals(app, Fault(read("opus.ogg"), FORMAT, ""))
    assert {code for code, _ in refused} == {FORMAT}
    assert "expected flac, wav, as this server allows, got ogg" in refused[0][1]


@pytest.mark.parametrize("name", ["opus.ogg", "opus.webm", "aac_frag.mp4", "cbr_noid3.mp3", "aac.aac", "wb.amr"])
async def test_an_end_in_the_middle_of_a_packet_is_no_fault(name: str) -> None:
    data = read(name)[:-7]
    async with everywhere() as app:
        live = [(await said(app, data, AUTO))[-1], (await called(app, data, AUTO))[-1]]
        _, events = await posted(app, data)
    lengths = {events[-1]["received"], *[end.received for end in live if isinstance(end, Finished)]}
    assert len(lengths) == 1
    assert lengths.pop() > 0.1 * FILES[name].frames


async def test_fifty_packets_in_a_row_that_do_not_decode_end_the_stream() -> None:
    opus = next(item for item in OggDemuxer().push(read("opus.ogg")) if isinstance(item, Packet)).data
    async with everywhere() as app, streamer.connect(url_of(app), encoding="opus") as stream:
        try:
            for packet in (opus, *[b"\x03\xff\xff"] * 60):
                await stream.send(packet)
            await stream.stop()
        except ConnectionClosed:
            pass
        code, message = _fatal(await heard(stream))
    assert (code, message) == (AUDIO, "50 packets in a row that cannot be decoded (opus)")


@pytest.mark.parametrize("name", ["a bomb of FLAC with eight channels", "a bomb of Opus"])
async def test_a_bomb_asks_the_model_for_no_more_than_honest_audio_of_its_size_and_a_minute(name: str) -> None:
    """250 bit/s of each channel may be spent, and 60 s: less than a tenth of what these bytes claim."""
    bomb = FAULTS[name].data
    async with everywhere() as app:
        _, events = await posted(app, bomb, "/api/v2/simple?chunk_ms=1000&encoding=auto")
        assert app.memory.used == 0
    ends = [event["end_time"] for event in events if event.get("type") == "segment"]
    assert max(ends, default=0.0) <= 60 + 8 * len(bomb) / 250 + 5
