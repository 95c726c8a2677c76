"""Fuzz targets that read bytes of clients of other services, for atheris and for the quick tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from streamer.errors import BadRequest
from streamer.protocols.codec import Codec, Reply
from streamer.protocols.deepgram.flux import Flux
from streamer.protocols.deepgram.flux_query import read_flux
from streamer.protocols.deepgram.listen import Listen, ListenIdentity
from streamer.protocols.deepgram.query import read_listen
from streamer.protocols.deepgram.shared_query import ListenPolicy
from streamer.session.events import Mode
from streamer.session.messages import Malformed
from streamer.session.session import Session
from streamer.session.settings import SessionSettings

MAX_ERROR = 600
SETTINGS = SessionSettings(Mode.SEGMENTED)


def deepgram(data: bytes) -> None:
    """A query, and lines that are text, or audio if they begin with a zero."""
    query, _, frames = data.partition(b"\n")
    try:
        request = read_listen(parse_qsl(query.decode("latin-1")), ListenPolicy(SETTINGS, model_options=("keyterm",)))
    except BadRequest as error:
        if len(error.message) > MAX_ERROR:
            raise AssertionError(error.message) from None
        return
    converse(Listen(request, ListenIdentity("r", "t", "m", "u"), 16_000), frames.split(b"\n"))


def converse(codec: Codec[str | bytes], lines: list[bytes]) -> None:
    """Give lines to a codec and its messages to a session: nothing raises, and every answer is JSON."""
    session = Session(SETTINGS, "s", 0.0)
    steps = [*codec.begin()]
    for line in lines:
        frame = line[1:] if line[:1] == b"\0" else line.decode("utf-8", "replace")
        steps += _listed(codec.decode(frame))
    for step in steps:
        if isinstance(step, Reply):
            json.loads(step.frame)
            continue
        if isinstance(step, Malformed):
            assert len(step.message) < MAX_ERROR
        for action in session.receive(step, 1.0):
            if (event := getattr(action, "event", None)) is not None:
                for reply in _listed(codec.encode(event)):
                    json.loads(reply.frame)


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [] if given is None else [given]


def flux(data: bytes) -> None:
    """A query of `/v2/listen`, and lines as above."""
    query, _, frames = data.partition(b"\n")
    try:
        request = read_flux(parse_qsl(query.decode("latin-1")), ListenPolicy(SETTINGS, model_options=("keyterm",)))
    except BadRequest as error:
        if len(error.message) > MAX_ERROR:
            raise AssertionError(error.message) from None
        return
    converse(Flux(request, ListenIdentity("r", "t", "m", "u"), 16_000), frames.split(b"\n"))


DIALECTS: dict[str, Callable[[bytes], None]] = {
    "deepgram": deepgram,
    "flux": flux,
}
