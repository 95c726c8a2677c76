"""Damaged, hostile and foreign media: a clear error, a bounded cost, and silence for one bad packet."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.errors import ErrorCode, StreamerError
from streamer.media import libav, libopus
from streamer.media.decoder import FREE_SECONDS, MediaDecoder
from streamer.media.formats import Container, MediaFormat
from streamer.media.ogg import OggDemuxer
from streamer.media.packets import AudioCodec, Packet, UnsupportedMedia
from tests.media.material import AUTO, FILES, decoded, flac_of_silence, ogg_opus, read

WRONG = {
    "text": (b'{"type":"start"}' * 4, "invalid_format", "text: '{\"type\":\"sta'"),
    "zeros": (bytes(64), "invalid_format", "all zeros; PCM has to be declared"),
    "nothing known": (bytes(range(40, 120)), "invalid_format", "expected audio that begins as Ogg"),
    "MPEG-TS": (read("aac.ts"), "invalid_format", "MPEG-TS"),
    "Vorbis": (read("vorbis.ogg"), "invalid_format", "Ogg: expected Opus or FLAC, got Vorbis"),
    "what crashes miniaudio": (read("crash_miniaudio_1.71.bin"), "invalid_format", "got Vorbis"),
    "what crashes PyAV": (read("aac_71_crashes_pyav18.aac"), "invalid_format", "at most 7 channels, got 8"),
    "MP4 with its index behind": (read("aac_moovend.m4a"), "invalid_format", "faststart"),
    "WebM without audio": (
        read("video_opus.webm").replace(b"\x83\x81\x02", b"\x83\x81\x11"), "invalid_format", "expected an audio track",
    ),
    "WebM that is cut into": (read("opus.webm")[:600] + bytes(100), "invalid_audio", "no EBML element at byte"),
    "Ogg that is lost": (read("opus.ogg")[:5_000] + b"x" * 200_000, "invalid_audio", "no page in 131072 bytes"),
    "FLAC without STREAMINFO": (b"fLaC\x84\0\0\x04" + bytes(40), "invalid_audio", "expected STREAMINFO first"),
    "FLAC of garbage": (read("live.flac")[:9_000] + bytes(400_000), "invalid_audio", "expected frames of at most"),
    "WAV without a format": (b"RIFF\0\0\0\0WAVEdata\xff\0\0\0" + bytes(9), "invalid_audio", "before their format"),
    "WAV of ADPCM": (read("mulaw.wav").replace(b"\x07\0", b"\x02\0", 1), "invalid_format", "format tag 2"),
    "MP3 that is lost": (read("cbr_noid3.mp3") + b"y" * 70_000, "invalid_audio", "MP3: no frame in 65536 bytes"),
    "an index too large": (
        b"\0\0\0\x10ftypM4A \0\0\0\0\x7f\0\0\0moov", "invalid_audio", "expected moov of at most 262144 bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("size", [1, 10**9])
def test_each_fault_is_named(name: str, size: int) -> None:
    data, code, text = WRONG[name]
    with pytest.raises(StreamerError, match=re.escape(text)) as raised:
        decoded(data[at : at + size] for at in range(0, len(data), size))
    assert raised.value.code == code
    assert len(raised.value.message) < 300


def _take_all(decoder: MediaDecoder) -> None:
    while decoder.is_pending:
        assert len(decoder.take()) <= 2 * 8 * 65_535 * 2


@pytest.mark.parametrize(
    ("data", "audio_s"),
    [
        pytest.param(flac_of_silence(300), 1_229, id="10 kB of FLAC, eight channels"),
        pytest.param(flac_of_silence(300, channels=1), 1_229, id="4 kB of FLAC"),
        pytest.param(ogg_opus(bytes([11 << 3 | 3, 2]), 20), 612, id="Opus of empty frames"),
    ],
)
def test_a_bomb_is_refused_after_a_bounded_time_of_audio(data: bytes, audio_s: int) -> None:
    decoder = MediaDecoder(AUTO)
    decoder.push(data)
    with pytest.raises(StreamerError, match="expected at least 250 bit/s") as raised:
        _take_all(decoder)
    assert raised.value.code is ErrorCode.INVALID_AUDIO
    assert decoder.decoded_s < FREE_SECONDS + len(data) * 8 / 250 + 40 < audio_s


def test_bytes_that_make_no_audio_are_looked_at_in_steps() -> None:
    """Each 0xFF may begin a frame of FLAC: a message of them takes long to look through."""
    decoder = MediaDecoder(AUTO)
    decoder.push(flac_of_silence(1) + b"\xff" * 400_000)
    decoder.take()
    assert decoder.is_pending
    assert decoder.nbytes >= 300_000


def test_a_fragment_after_tables_asks_for_no_table_as_a_whole() -> None:
    """The tables of one file can claim four thousand million samples."""
    whole = read("aac_faststart.m4a")
    at = whole.index(b"stsz") + 8
    claimed = whole[:at] + (300).to_bytes(4, "big") + b"\xff\xff\xff\xff" + whole[at + 8 :]
    moof = read("aac_frag.mp4")
    begin = moof.index(b"moof") - 4
    fragment = moof[begin : begin + int.from_bytes(moof[begin : begin + 4], "big")]
    mdat = claimed.index(b"mdat") - 4
    with pytest.raises(StreamerError):
        decoded([claimed[:mdat] + fragment + claimed[mdat:]])


def test_packets_do_not_pile_up_before_they_are_taken() -> None:
    decoder = MediaDecoder(AUTO)
    decoder.push(ogg_opus(bytes([11 << 3 | 3, 2]), 500))
    before = decoder.nbytes
    decoder.take(0.1)
    assert decoder.nbytes < before + 100_000


@pytest.mark.parametrize("name", ["opus.ogg", "live.flac", "cbr_stereo.mp3", "aac.aac", "nb.amr"])
def test_a_packet_that_does_not_decode_becomes_silence_of_its_length(name: str) -> None:
    from streamer.media.containers import demuxer_for
    from streamer.media.decoder import _TrackDecoder
    from streamer.media.decoders import decoder_for
    from streamer.media.packets import Track

    demuxer = demuxer_for(AUTO)
    track, *packets = [*demuxer.push(read(name)[:20_000])]
    assert isinstance(track, Track)
    lengths = []
    for damage in (False, True):
        decoder = _TrackDecoder(track, decoder_for(track, 48_000, downmix=False))
        total = 0
        for index, packet in enumerate(packets):
            assert isinstance(packet, Packet)
            data = packet.data
            if damage and index == 5:
                data = bytes([data[0] | 3, 0xFF]) if track.codec is AudioCodec.OPUS else bytes(7)
            total += len(decoder.decode(Packet(data, packet.samples, packet.trim))[0])
            assert decoder.is_bad == (damage and index == 5)
        lengths.append(total)
    assert lengths[0] == lengths[1]


def test_too_many_bad_packets_in_a_row_end_the_stream() -> None:
    opus = next(item for item in OggDemuxer().push(read("opus.ogg")) if isinstance(item, Packet)).data
    data = [opus, *[b"\x03\xff\xff"] * 60]
    with pytest.raises(StreamerError, match="50 packets in a row") as raised:
        decoded(data, MediaFormat(Container.OPUS))
    assert raised.value.code is ErrorCode.INVALID_AUDIO


@pytest.mark.parametrize("declared", [Container.WEBM, Container.MP3, Container.OPUS, Container.WAV])
def test_a_container_that_is_not_the_declared_one_is_refused(declared: Container) -> None:
    with pytest.raises(UnsupportedMedia, match=r"as declared, got ogg.*declare"):
        decoded([read("opus.ogg")], MediaFormat(declared))


@pytest.mark.parametrize("declared", [Container.AUTO, Container.OGG, Container.OPUS])
def test_a_container_that_the_operator_does_not_serve_is_not_reached(declared: Container) -> None:
    decoder = MediaDecoder(MediaFormat(declared), served=frozenset({Container.WAV, Container.FLAC}))
    decoder.push(read("opus.ogg"))
    with pytest.raises(UnsupportedMedia, match=r"expected flac, wav, as this server allows, got (ogg|opus)"):
        decoder.take()


@pytest.mark.parametrize("name", ["opus.ogg", "opus.webm", "aac_frag.mp4", "cbr_noid3.mp3", "aac.aac", "wb.amr"])
def test_an_end_in_the_middle_of_a_packet_is_no_error(name: str) -> None:
    form, data = decoded([read(name)[:-7]])
    assert 0.8 * FILES[name].frames < len(data) / form.frame_bytes <= FILES[name].frames


def test_what_is_not_installed_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    libav.load_av.cache_clear()
    with pytest.raises(
        UnsupportedMedia, match=re.escape("MP3: expected PyAV, which is not installed here: pip install")
    ):
        decoded([read("cbr_noid3.mp3")])
    monkeypatch.undo()
    libav.load_av.cache_clear()
    with pytest.raises(UnsupportedMedia, match="expected libopus, which is not installed here"):
        libopus.load_libopus("/nowhere/libopus.so")


def test_libopus_is_that_of_the_setting_and_no_other(tmp_path: Path) -> None:
    """Then the system's, PyAV's and opuslib_next's, the first that loads."""
    own = str(tmp_path / "libopus.so")
    assert [*libopus.candidates(own)] == [own]
    names = [*libopus.candidates("")]
    assert names[:2] == ["libopus.so.0", "libopus.0.dylib"]
    assert "libopus" in names[-1]
    (tmp_path / "libopus.so").write_bytes(b"not a library")
    with pytest.raises(UnsupportedMedia, match="expected libopus"):
        libopus.load_libopus(own)


def test_a_server_without_the_extra_does_not_import_it() -> None:
    code = "import streamer.media.decoder, sys; assert 'av' not in sys.modules and 'soundfile' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
