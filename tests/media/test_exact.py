"""What is decoded depends on the bytes alone, and is what other decoders make of them."""

from __future__ import annotations

from io import BytesIO

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.format import Encoding
from streamer.audio.pcm import Decoder
from streamer.media.decoder import MediaDecoder
from streamer.media.formats import Container, MediaFormat
from tests.audio.cuts import pieces
from tests.media.material import AUTO, FILES, FOLDER, decoded, read


@pytest.mark.parametrize("name", FILES)
def test_each_file_has_the_length_of_its_recording(name: str) -> None:
    form, data = decoded([read(name)])
    assert (form.sample_rate, form.channels, len(data) // form.frame_bytes) == FILES[name]
    assert len(data) % form.frame_bytes == 0


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [1, 997])
def test_pieces_of_one_size_give_the_same_bits(name: str, size: int) -> None:
    data = read(name)
    if size == 1:
        data = data[:30_000]
    assert decoded(data[at : at + size] for at in range(0, len(data), size)) == decoded([data])


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=5, deadline=None)
@given(sizes=st.lists(st.integers(0, 9_000), min_size=1, max_size=20))
def test_pieces_of_any_size_give_the_same_bits(name: str, sizes: list[int]) -> None:
    data = read(name)[:50_000]
    assert decoded(data[cut] for cut in pieces(len(data), sizes)) == decoded([data])


@pytest.mark.parametrize("seconds", [0.001, 0.5, 1e9])
def test_how_much_is_taken_at_once_changes_nothing(seconds: float) -> None:
    for name in ("opus.ogg", "live.flac", "opus_chained.ogg", "mediarecorder.webm"):
        decoder, parts = MediaDecoder(AUTO, 48_000), []
        decoder.push(read(name))
        decoder.finish()
        while decoder.is_pending:
            parts.append(decoder.take(seconds))
        assert (decoder.format, b"".join(parts)) == decoded([read(name)])


REFERENCES = {
    "aac.aac": 3e-7,
    "aac_frag.mp4": 3e-7,
    "aac_stereo.aac": 3e-7,
    "cbr_stereo.mp3": 0.0,
    "flac.oga": 0.0,
    "live.flac": 0.0,
    "nb.amr": 0.0,
    "stereo24.flac": 0.0,
    "wb.amr": 0.0,
}
"""The most that a sample may differ."""


@pytest.mark.parametrize("name", REFERENCES)
def test_samples_are_those_of_the_reference_decoder(name: str) -> None:
    with av.open(str(FOLDER / name)) as file:
        frames = [_floats(frame) for frame in file.decode(audio=0)]
    _assert_near(name, np.concatenate(frames, axis=1), REFERENCES[name])


@pytest.mark.parametrize("name", ["opus.ogg", "opus.webm", "opus_stereo.ogg", "mediarecorder.webm", "opus_frag.mp4"])
def test_opus_is_that_of_libopus(name: str) -> None:
    """Within half a step of 16 bits: the reference gives those too."""
    with av.open(str(FOLDER / name)) as file:
        codec = av.CodecContext.create("libopus", "r")
        codec.extradata = file.streams.audio[0].codec_context.extradata
        frames = [_floats(frame) for packet in file.demux(audio=0) if packet.size for frame in codec.decode(packet)]
    _assert_near(name, np.concatenate(frames, axis=1), 1.0 / 32_768)


def _floats(frame: av.AudioFrame) -> np.ndarray:
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    return values / 2 ** (8 * values.itemsize - 1) if values.dtype.kind == "i" else values


def _assert_near(name: str, reference: np.ndarray, tolerance: float) -> None:
    form, data = decoded([read(name)])
    samples = Decoder(form).push(data)
    length = min(samples.shape[1], reference.shape[1])
    assert length > 0.99 * samples.shape[1]
    assert np.abs(samples[:, :length] - reference[:, :length]).max() <= tolerance


@pytest.mark.parametrize("name", ["opus.ogg", "opus60.ogg", "mediarecorder.webm"])
def test_opus_comes_at_the_rate_that_is_wanted(name: str) -> None:
    form, data = decoded([read(name)], rate=16_000)
    assert (form.encoding, form.sample_rate) == (Encoding.PCM_S16LE, 16_000)
    assert len(data) // form.frame_bytes == FILES[name].frames // 3
    level = np.sqrt((Decoder(form).push(data) ** 2).mean())
    at_48k, whole = decoded([read(name)])
    assert level == pytest.approx(np.sqrt((Decoder(at_48k).push(whole) ** 2).mean()), rel=0.02)


def test_an_mp4_with_its_index_behind_is_decoded_from_a_spool() -> None:
    data = read("aac_moovend.m4a")
    decoder, parts = MediaDecoder(AUTO, spool=BytesIO()), []
    for at in range(0, len(data), 5_000):
        decoder.push(data[at : at + 5_000])
        parts.append(decoder.take())
    assert decoder.format is None
    decoder.finish()
    while decoder.is_pending:
        parts.append(decoder.take())
    assert b"".join(parts) == decoded([read("aac_faststart.m4a")])[1]


def test_raw_packets_of_opus_are_what_their_container_has() -> None:
    from streamer.media.ogg import OggDemuxer
    from streamer.media.packets import Packet

    packets = [item.data for item in OggDemuxer().push(read("opus.ogg")) if isinstance(item, Packet)]
    form, data = decoded(packets, MediaFormat(Container.OPUS))
    whole = decoded([read("opus.ogg")])[1]
    skip = 312 * form.frame_bytes
    assert data[skip : skip + len(whole)] == whole


def test_g722_is_that_of_ffmpeg_however_it_is_cut() -> None:
    data, declared = read("g722.g722"), MediaFormat(Container.G722)
    form, samples = decoded([data], declared)
    assert (form.sample_rate, form.channels, len(samples) // form.frame_bytes) == (16_000, 1, 113_600)
    for size in (1, 160, 997):
        assert decoded((data[at : at + size] for at in range(0, len(data), size)), declared) == (form, samples)
    with av.open(str(FOLDER / "g722.g722"), format="g722") as file:
        reference = np.concatenate([_floats(frame) for frame in file.decode(audio=0)], axis=1)
    assert np.array_equal(Decoder(form).push(samples)[:, : reference.shape[1]], reference)


def test_channels_of_one_person_are_joined() -> None:
    for name in ("opus_stereo.ogg", "cbr_stereo.mp3", "stereo24.flac"):
        form, data = decoded([read(name)], MediaFormat(Container.AUTO, downmix=True))
        assert (form.channels, len(data) // form.frame_bytes) == (1, FILES[name].frames)
        stereo = Decoder(decoded([read(name)])[0]).push(decoded([read(name)])[1])
        assert np.abs(Decoder(form).push(data)[0] - stereo.mean(axis=0)).max() < 0.01


def test_a_recording_that_follows_another_goes_on_in_its_format() -> None:
    """Mono at 16 kHz, then stereo at 48 kHz: one format, and the positions go on."""
    first, second = read("vbr_id3.mp3"), read("cbr_stereo.mp3")
    data = first[: first.rindex(b"TAG")] + second  # without the tag at the end
    form, audio = decoded([data])
    assert (form.sample_rate, form.channels) == (16_000, 1)
    assert abs(len(audio) // form.frame_bytes - (FILES["vbr_id3.mp3"].frames + 288_000 // 3)) < 3_000
    assert decoded(data[at : at + 701] for at in range(0, len(data), 701)) == (form, audio)
