"""The query of `/v1/listen`: the format of the audio, the start of the stream, and how results are sent.

That of a file by POST has the same parameters for most of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from streamer.audio.format import AudioFormat
from streamer.errors import BadRequest
from streamer.protocols.deepgram.shared_query import (
    MULTILINGUAL,
    ListenPolicy,
    read_format,
    read_ignored,
    read_options,
    refuse_unsafe,
)
from streamer.protocols.parameters import Parameters
from streamer.session.messages import Start, VadOverrides

PROGRESS_MS = 100
"""Step of the audio's clock, by which UtteranceEnd is due."""


@dataclass(frozen=True, slots=True)
class ListenRequest:
    """A request as it was understood.

    `start`: the start of the stream. `mixed`: format of PCM whose channels are joined before the session gets it; None
    if they are not. `channels`: of the results. `sends_speech_final`: silence may end an utterance.
    `sends_speech_start`: the client wants SpeechStarted. `utterance_end_s`: silence after which UtteranceEnd is sent;
    None for never. `diarizes`: words have speakers. `is_multilingual`: results name their languages. `options`: of the
    model. `takes_keyterms`: the model reads key terms. `ignored`: names of parameters without effect.
    """

    start: Start
    mixed: AudioFormat | None
    channels: int
    sends_speech_final: bool
    sends_speech_start: bool
    utterance_end_s: float | None
    diarizes: bool
    is_multilingual: bool
    options: Mapping[str, Any]
    takes_keyterms: bool
    ignored: tuple[str, ...]


def read_listen(query: Iterable[tuple[str, str]], policy: ListenPolicy) -> ListenRequest:
    """Read the query of a live stream. Raises BadRequest, naming the parameter."""
    parameters = Parameters(tuple(query))
    refuse_unsafe(parameters)
    format_, media, mixed, channels = read_format(parameters, policy.session)
    interims = parameters.flag("interim_results")
    language = parameters.text("language")
    options = read_options(parameters, policy)
    utterance_end_ms = parameters.integer("utterance_end_ms", 1_000, 600_000)
    if utterance_end_ms is not None and not interims:
        raise BadRequest(field="utterance_end_ms", expected="interim_results=true beside it", got=utterance_end_ms)
    vad, ends_by_silence = _endpointing(parameters, policy)
    start = Start(
        format_,
        interim_results=interims,
        vad=vad,
        options=msgspec.json.encode(options),
        media=media,
        progress_ms=None if utterance_end_ms is None else PROGRESS_MS,
    )
    speech_start = parameters.flag("vad_events")
    return ListenRequest(
        start,
        mixed,
        channels,
        sends_speech_final=ends_by_silence,
        sends_speech_start=speech_start,
        utterance_end_s=None if utterance_end_ms is None else utterance_end_ms / 1000,
        diarizes=_diarizes(parameters),
        is_multilingual=language == MULTILINGUAL,
        options=options,
        takes_keyterms="keyterm" in policy.model_options,
        ignored=read_ignored(parameters, policy),
    )


@dataclass(frozen=True, slots=True)
class ListenFileRequest:
    """A request for the transcript of a file. `start`, `mixed`, `diarizes`, `is_multilingual`, `ignored`: as above.

    `has_utterances`, `has_paragraphs`: the answer has them beside the whole transcript. `names_language`: the answer
    names the language that the model found.
    """

    start: Start
    mixed: AudioFormat | None
    has_utterances: bool
    has_paragraphs: bool
    diarizes: bool
    is_multilingual: bool
    names_language: bool
    ignored: tuple[str, ...]


def read_file(query: Iterable[tuple[str, str]], policy: ListenPolicy) -> ListenFileRequest:
    """Read the query of a file. Raises BadRequest, naming the parameter."""
    parameters = Parameters(tuple(query))
    refuse_unsafe(parameters)
    format_, media, mixed, _ = read_format(parameters, policy.session)
    options = msgspec.json.encode(read_options(parameters, policy))
    return ListenFileRequest(
        Start(format_, vad=_utterance_split(parameters, policy), options=options, media=media),
        mixed,
        has_utterances=parameters.flag("utterances"),
        has_paragraphs=parameters.flag("paragraphs"),
        diarizes=_diarizes(parameters),
        is_multilingual=parameters.text("language") == MULTILINGUAL,
        names_language=parameters.flag("detect_language"),
        ignored=read_ignored(parameters, policy),
    )


def with_keyterms(request: ListenRequest, keyterms: list[str]) -> ListenRequest:
    """Return the request with other key terms."""
    options = {**request.options, "keyterm": keyterms}
    return replace(request, options=options, start=replace(request.start, options=msgspec.json.encode(options)))


def _endpointing(parameters: Parameters, policy: ListenPolicy) -> tuple[VadOverrides, bool]:
    """Return the endpointing, and whether the silence of speech is said to end it."""
    value = (parameters.text("endpointing") or "true").lower()
    if value in ("true", "false"):
        return VadOverrides(), value == "true"
    most = int(policy.max_silence_ms)
    if not value.isascii() or not value.isdecimal() or len(value) > 6 or int(value) > most:
        raise BadRequest(field="endpointing", expected=f"milliseconds up to {most}, true or false", got=value)
    return VadOverrides(redemption_time_ms=float(max(int(value), policy.min_silence_ms))), True


def _utterance_split(parameters: Parameters, policy: ListenPolicy) -> VadOverrides:
    """Return the endpointing for the silence, in seconds, between two utterances of a file."""
    seconds = parameters.number("utt_split", 0, policy.max_silence_ms / 1000)
    if seconds is None:
        return VadOverrides()
    return VadOverrides(redemption_time_ms=max(seconds * 1000, float(policy.min_silence_ms)))


def _diarizes(parameters: Parameters) -> bool:
    named = parameters.text("diarize_model") is not None
    return parameters.flag("diarize") or named
