"""What reads bytes of strangers, as functions of bytes that must not fail: for atheris and for the quick tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from streamer.access import Credential, CredentialSource, KeyRing, TokenReader, Verifier, extract_credential
from streamer.audio.format import AudioFormat, Encoding
from streamer.audio.pcm import Decoder
from streamer.errors import StreamerError
from streamer.media.containers import demuxer_for
from streamer.media.decoder import MediaDecoder
from streamer.media.formats import Container, MediaFormat
from streamer.media.packets import Packet
from streamer.protocols.codec import Reply
from streamer.protocols.grpc_codec import GrpcCodec, peek_auth
from streamer.protocols.openai.file_request import read_request
from streamer.protocols.openai.form import FormField, FormReader
from streamer.protocols.openai.realtime import Realtime
from streamer.protocols.openai.realtime_session import RealtimeSettings
from streamer.protocols.v1 import V1Codec
from streamer.protocols.v2 import V2Codec
from streamer.session.actions import Emit
from streamer.session.events import Mode
from streamer.session.messages import Malformed
from streamer.session.session import Session
from streamer.session.settings import Limits, SessionSettings
from streamer.telemetry.spans import remote_context
from tests.fuzz.dialects import DIALECTS

NOW = 1_700_000_000.0
MAX_ERROR = 600
ENCODINGS = list(Encoding)
VERIFIER = Verifier(KeyRing(), TokenReader([b"s" * 32], max_life_s=3_600))


def control(data: bytes) -> None:
    """A text frame of either dialect, and what the session says of it."""
    text = data.decode("utf-8", "surrogateescape" if data[:1] == b"!" else "replace")
    for codec in (V1Codec(Mode.SEGMENTED, 16_000), V2Codec(Mode.SEGMENTED, 16_000)):
        message = codec.decode(text)
        if isinstance(message, Malformed):
            assert len(message.message) < MAX_ERROR
        session = Session(SessionSettings(Mode.SEGMENTED), "s", 0.0)
        session.receive(message, 1.0)


def proto(data: bytes) -> None:
    """A message over gRPC."""
    peek_auth(data)
    message = GrpcCodec(16_000).decode(data)
    if isinstance(message, Malformed):
        assert len(message.message) < MAX_ERROR
    Session(SessionSettings(Mode.SIMPLE), "s", 0.0).receive(message, 1.0)


def pcm(data: bytes) -> None:
    """Audio in any encoding, cut in two anywhere: finite samples between -1 and 1, the same however it is cut."""
    if len(data) < 3:
        return
    form = AudioFormat(ENCODINGS[data[0] % len(ENCODINGS)], 16_000, 1 + data[1] % 8)
    cut, audio = data[2] % len(data), data[3:]
    whole = Decoder(form).push(audio)
    decoder = Decoder(form)
    parts = np.concatenate([decoder.push(audio[:cut]), decoder.push(audio[cut:])], axis=1)
    assert np.array_equal(whole, parts)
    assert np.isfinite(whole).all()
    assert whole.size == 0 or np.abs(whole).max() <= 1.0


def token(data: bytes) -> None:
    """A credential by any carrier: nobody gets in who cannot sign."""
    text = data.decode("latin-1")
    for credential in (
        Credential(text, CredentialSource.MESSAGE),
        extract_credential(text, (), None),
        extract_credential(None, text.split(","), None),
        extract_credential(None, (), text),
    ):
        with pytest.raises(StreamerError) as refused:
            VERIFIER.begin(credential, NOW)
        assert len(refused.value.message) < MAX_ERROR


def trace(data: bytes) -> None:
    """A trace context: garbage is no context, and no error."""
    traceparent, _, tracestate = data.decode("latin-1").partition("\n")
    remote_context(traceparent, tracestate)


def media(data: bytes) -> None:
    """Compressed audio of any kind: samples or an error of ours, and the same packets however it is cut.

    (Packets, not samples: libavcodec's AAC and MP3 are not functions of their packets if those are damaged.)
    """
    if len(data) < 2:
        return
    containers = list(Container)
    declared = MediaFormat(containers[data[0] % len(containers)], downmix=data[0] >= 128)
    size, audio = 1 + data[1], data[2:]
    _decode(audio, declared)
    if declared.container in (Container.OPUS, Container.G722):
        return  # every push is a packet
    whole = _demuxed([audio], declared)
    parts = _demuxed([audio[at : at + size] for at in range(0, len(audio), size)], declared)
    assert whole[1] == parts[1]
    if whole[1] is None:
        assert whole[0] == parts[0]


def _decode(audio: bytes, declared: MediaFormat) -> None:
    decoder = MediaDecoder(declared)
    decoder.push(audio)
    decoder.finish()
    try:
        while decoder.is_pending:
            decoder.take()
    except StreamerError as error:
        text = error.message
        if len(text) > MAX_ERROR:
            raise AssertionError(text) from None


def _demuxed(pieces: list[bytes], declared: MediaFormat) -> tuple[list[object], str | None]:
    """Tracks and packets, PCM joined, and the error."""
    demuxer, items = demuxer_for(declared), list[object]()
    samples = b""
    try:
        for found in (*map(demuxer.push, pieces), demuxer.finish()):
            for item in found:
                if isinstance(item, Packet) and not item.samples:
                    samples += item.data
                else:
                    items.append((item.data, item.samples, item.trim) if isinstance(item, Packet) else item)
    except StreamerError as error:
        return [], error.message
    return [*items, samples], None


def form(data: bytes) -> None:
    """A form with a file: the same items however it is cut, or an error of ours."""
    if len(data) < 1:
        return
    cut, body = 1 + data[0], data[1:]
    whole = _form([body])
    assert whole == _form([body[at : at + cut] for at in range(0, len(body), cut)])


def _form(pieces: list[bytes]) -> tuple[list[object], str]:
    """Fields, files in one piece, and the error."""
    reader, items = FormReader("multipart/form-data; boundary=x"), list[object]()
    try:
        for piece in pieces:
            for item in reader.push(piece):
                if isinstance(item, bytes) and items and isinstance(items[-1], bytes):
                    items[-1] += item
                else:
                    items.append(item)
        reader.finish()
        fields = [(item.name, item.value) for item in items if isinstance(item, FormField)]
        read_request(fields, "m")
    except StreamerError as error:
        text = error.message
        if len(text) > MAX_ERROR:
            raise AssertionError(text) from None
        return [], text
    return items, ""


def realtime(data: bytes) -> None:
    """Events of the Realtime API, a line each, and what the session says to them."""
    limits = Limits()
    codec = Realtime("id", 16_000, limits, settings=RealtimeSettings(), expires_at=0)
    session = Session(SessionSettings(Mode.SEGMENTED), "s", 0.0)
    codec.begin()
    for line in data.splitlines()[:50]:
        text = line.decode("utf-8", "surrogateescape" if line[:1] == b"!" else "replace")
        steps = codec.decode(text)
        for step in steps if isinstance(steps, list) else [steps]:
            if isinstance(step, Reply):
                assert len(step.frame) < 4 * MAX_ERROR + len(line)
                continue
            for action in session.receive(step, 1.0):
                if isinstance(action, Emit):
                    codec.encode(action.event)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "control": control,
    "proto": proto,
    "pcm": pcm,
    "media": media,
    "token": token,
    "trace": trace,
    **DIALECTS,
    "form": form,
    "realtime": realtime,
}
