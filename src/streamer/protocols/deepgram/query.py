"""The query of `/v1/listen`: the format of the audio, the start of the stream, and how results are sent.

That of a file by POST has the same parameters for most of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from streamer.audio.format import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, AudioFormat, Encoding
from streamer.errors import BadRequest, InvalidFormat
from streamer.media.formats import Container, MediaFormat, provisional
from streamer.protocols.parameters import Parameters
from streamer.session.messages import Start, VadOverrides
from streamer.session.settings import SessionSettings

_SECONDS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?", re.ASCII)
PROGRESS_MS = 100
"""Step of the audio's clock, by which UtteranceEnd is due."""

_RAW = {
    "linear16": Encoding.PCM_S16LE,
    "linear32": Encoding.PCM_F32LE,
    "mulaw": Encoding.MULAW,
    "alaw": Encoding.ALAW,
}
_COMPRESSED = {
    "flac": Container.FLAC,
    "ogg-opus": Container.OGG,
    "opus": Container.OPUS,
    "amr-nb": Container.AMR,
    "amr-wb": Container.AMR,
}
_REFUSED = ("redact", "profanity_filter", "callback", "callback_method")
_REFUSAL = "this server does not change or forward transcripts"
_MODEL = ("model", "version", "tier")
"""Parameters that select a model, of which there is one here."""
_LISTS = frozenset({"keyterm", "keywords", "replace", "search", "tag", "extra", "language_hint"})
"""Parameters that may occur several times."""
_PASSED = (
    "language", "language_hint", "keyterm", "keywords", "punctuate", "smart_format", "numerals", "filler_words",
    "dictation", "replace", "search", "detect_entities", "extra", "tag", *_MODEL,
)  # fmt: skip
"""Parameters that are passed on to a model that reads them."""
_MULTILINGUAL = "multi"


@dataclass(frozen=True, slots=True)
class ListenPolicy:
    """Settings of the server for requests.

    `min_silence_ms`: shortest silence by which a client may end an utterance. `model_options`: names of the options
    that the model reads. `refuse_ignored`: a parameter without effect is an error.
    """

    session: SessionSettings
    min_silence_ms: int = 300
    model_options: tuple[str, ...] = ()
    refuse_ignored: bool = False


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
    given = Parameters(tuple(query))
    given.refuse(_REFUSED, _REFUSAL)
    format_, media, mixed, channels = _format(given, policy.session)
    interims = given.flag("interim_results")
    language = given.text("language")
    options = _options(given, policy)
    utterance_end_ms = given.integer("utterance_end_ms", 1_000, 600_000)
    if utterance_end_ms is not None and not interims:
        raise BadRequest(field="utterance_end_ms", expected="interim_results=true beside it", got=utterance_end_ms)
    vad, ends_by_silence = _endpointing(given, policy)
    start = Start(
        format_,
        interim_results=interims,
        vad=vad,
        options=msgspec.json.encode(options),
        media=media,
        progress_ms=None if utterance_end_ms is None else PROGRESS_MS,
    )
    speech_start = given.flag("vad_events")
    return ListenRequest(
        start,
        mixed,
        channels,
        sends_speech_final=ends_by_silence,
        sends_speech_start=speech_start,
        utterance_end_s=None if utterance_end_ms is None else utterance_end_ms / 1000,
        diarizes=_diarizes(given),
        is_multilingual=language == _MULTILINGUAL,
        options=options,
        takes_keyterms="keyterm" in policy.model_options,
        ignored=_ignored(given, policy),
    )


@dataclass(frozen=True, slots=True)
class FileRequest:
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


def read_file(query: Iterable[tuple[str, str]], policy: ListenPolicy) -> FileRequest:
    """Read the query of a file. Raises BadRequest, naming the parameter."""
    given = Parameters(tuple(query))
    given.refuse(_REFUSED, _REFUSAL)
    format_, media, mixed, _ = _format(given, policy.session)
    options = msgspec.json.encode(_options(given, policy))
    return FileRequest(
        Start(format_, vad=_utterance_split(given, policy), options=options, media=media),
        mixed,
        has_utterances=given.flag("utterances"),
        has_paragraphs=given.flag("paragraphs"),
        diarizes=_diarizes(given),
        is_multilingual=given.text("language") == _MULTILINGUAL,
        names_language=given.flag("detect_language"),
        ignored=_ignored(given, policy),
    )


def with_keyterms(request: ListenRequest, keyterms: list[str]) -> ListenRequest:
    """Return the request with other key terms."""
    options = {**request.options, "keyterm": keyterms}
    return replace(request, options=options, start=replace(request.start, options=msgspec.json.encode(options)))


def _format(
    given: Parameters, settings: SessionSettings
) -> tuple[AudioFormat, MediaFormat | None, AudioFormat | None, int]:
    """Return the format, of compressed audio too; that of PCM before it is mixed; and the number of channels."""
    encoding = given.text("encoding")
    rate = given.integer("sample_rate", MIN_SAMPLE_RATE, MAX_SAMPLE_RATE)
    channels = given.integer("channels", 1, settings.limits.max_channels)
    separate = given.flag("multichannel")
    if encoding not in _RAW:
        media = _media(encoding, channels, settings, separate=separate)
        return provisional(), media, None, (channels or 1) if separate else 1
    if rate is None:
        raise BadRequest(field="sample_rate", expected=f"a sample rate in Hz beside encoding={encoding}", got=None)
    format_ = AudioFormat(_RAW[encoding], rate, channels or 1)
    if separate or format_.channels == 1:
        return format_, None, None, format_.channels
    return AudioFormat(Encoding.PCM_S16LE, rate, 1), None, format_, 1


def _media(encoding: str | None, channels: int | None, settings: SessionSettings, *, separate: bool) -> MediaFormat:
    """Return the format of compressed audio, or of a container that is found out."""
    container = Container.AUTO if encoding is None else _COMPRESSED.get(encoding)
    if container is None or (container is not Container.AUTO and container not in settings.containers):
        known = [name for name, each in _COMPRESSED.items() if each in settings.containers]
        raise BadRequest(field="encoding", expected=f"one of {', '.join((*_RAW, *known))}, or none", got=encoding)
    try:
        return MediaFormat(container, channels if container is Container.OPUS else None, not separate).check()
    except InvalidFormat as error:
        raise BadRequest(field="channels", expected=error.expected, got=channels) from None


def _endpointing(given: Parameters, policy: ListenPolicy) -> tuple[VadOverrides, bool]:
    """Return the endpointing, and whether the silence of speech is said to end it."""
    value = (given.text("endpointing") or "true").lower()
    if value in ("true", "false"):
        return VadOverrides(), value == "true"
    most = int(max(policy.session.limits.max_redemption_ms, policy.session.vad.redemption_time_ms))
    if not value.isascii() or not value.isdecimal() or len(value) > 6 or int(value) > most:
        raise BadRequest(field="endpointing", expected=f"milliseconds up to {most}, true or false", got=value)
    return VadOverrides(redemption_time_ms=float(max(int(value), policy.min_silence_ms))), True


def _utterance_split(given: Parameters, policy: ListenPolicy) -> VadOverrides:
    """Return the endpointing for the silence, in seconds, between two utterances of a file."""
    value = given.text("utt_split")
    if value is None:
        return VadOverrides()
    most = max(policy.session.limits.max_redemption_ms, policy.session.vad.redemption_time_ms) / 1000
    seconds = float(value) if _SECONDS.fullmatch(value) else -1.0
    if not 0 < seconds <= most:
        raise BadRequest(field="utt_split", expected=f"seconds above 0, at most {most:g}", got=value)
    return VadOverrides(redemption_time_ms=max(seconds * 1000, float(policy.min_silence_ms)))


def _diarizes(given: Parameters) -> bool:
    named = given.text("diarize_model") is not None
    return given.flag("diarize") or named


def _options(given: Parameters, policy: ListenPolicy) -> dict[str, Any]:
    """Return the parameters that the model reads, as its options."""
    options: dict[str, Any] = {}
    for name in _PASSED:
        if name not in given or name not in policy.model_options:
            continue
        values = given.texts(name)
        if name != "language" or values[-1] != _MULTILINGUAL:
            options[name] = values if name in _LISTS else values[-1]
    return options


def _ignored(given: Parameters, policy: ListenPolicy) -> tuple[str, ...]:
    """Return the parameters without effect. Raises BadRequest if the server refuses them."""
    ignored = [name for name in given.unread() if name != "access_token"]
    if "language" in given and "language" not in policy.model_options:
        ignored.append("language")
    refused = [name for name in ignored if name not in _MODEL]
    if policy.refuse_ignored and refused:
        expected = "no parameter without effect (dialects.unsupported_parameters)"
        raise BadRequest(field=refused[0], expected=expected, got=given.text(refused[0]))
    return tuple(ignored)
