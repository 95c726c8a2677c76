"""Fuzz targets that read bytes of clients of other services, for atheris and for the quick tests."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl

from streamer.errors import BadRequest
from streamer.protocols.deepgram.flux import Flux
from streamer.protocols.deepgram.flux_query import read_flux
from streamer.protocols.deepgram.listen import Listen, ListenIdentity
from streamer.protocols.deepgram.query import read_listen
from streamer.protocols.deepgram.shared_query import ListenPolicy
from tests.fuzz.byte_dialects import audiosocket, wyoming
from tests.fuzz.text_dialects import RATE, SETTINGS, assemblyai, check_message, play_lines, speechmatics, twilio, vosk


def deepgram(data: bytes) -> None:
    """A query, and lines that are text, audio if they begin with a zero, or an utterance."""
    query, _, frames = data.partition(b"\n")
    try:
        request = read_listen(parse_qsl(query.decode("latin-1")), ListenPolicy(SETTINGS, model_options=("keyterm",)))
    except BadRequest as error:
        check_message(error.message)
        return
    play_lines(Listen(request, ListenIdentity("r", "t", "m", "u"), RATE), frames)


def flux(data: bytes) -> None:
    """A query of `/v2/listen`, and lines as above."""
    query, _, frames = data.partition(b"\n")
    try:
        request = read_flux(parse_qsl(query.decode("latin-1")), ListenPolicy(SETTINGS, model_options=("keyterm",)))
    except BadRequest as error:
        check_message(error.message)
        return
    play_lines(Flux(request, ListenIdentity("r", "t", "m", "u"), RATE), frames)


DIALECTS: dict[str, Callable[[bytes], None]] = {
    "deepgram": deepgram,
    "flux": flux,
    "vosk": vosk,
    "wyoming": wyoming,
    "assemblyai": assemblyai,
    "speechmatics": speechmatics,
    "twilio": twilio,
    "audiosocket": audiosocket,
}
