"""The form of a transcription: its fields, checked and translated to the words of the core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from streamer.errors import BadRequest
from streamer.session.messages import VadOverrides


class ResponseFormat(StrEnum):
    """Formats of a transcript."""

    JSON = "json"
    TEXT = "text"
    SRT = "srt"
    VERBOSE_JSON = "verbose_json"
    VTT = "vtt"


_STREAMED = frozenset({ResponseFormat.JSON, ResponseFormat.TEXT})
_GRANULARITIES = ("word", "segment")
_WITHOUT_EFFECT = frozenset({"keywords", "languages", "known_speaker_names", "known_speaker_references"})
_KNOWN = frozenset(
    {
        *("model", "language", "prompt", "response_format", "temperature", "timestamp_granularities"),
        *("stream", "include", "chunking_strategy"),
    }
)
_TRUE, _FALSE = frozenset({"true", "1"}), frozenset({"false", "0", ""})
_STRATEGY = "chunking_strategy"
_MAX_PROMPT = 8_000
_MAX_LANGUAGE = 35

Ms = Annotated[float, msgspec.Meta(ge=0)]


class TurnFloor(NamedTuple):
    """Least padding in front of speech, and least silence that ends it, in milliseconds.

    A client that asks for less gets this: a recogniser needs the beginning of the first word, and services that hear on
    past an endpoint may end a turn sooner.
    """

    prefix_padding_ms: int = 0
    silence_duration_ms: int = 0

    def raised(self, vad: VadOverrides) -> VadOverrides:
        """Return endpointing that is not below the floor."""
        pad, silence = vad.pre_speech_pad_ms, vad.redemption_time_ms
        return msgspec.structs.replace(
            vad,
            pre_speech_pad_ms=None if pad is None else max(pad, self.prefix_padding_ms),
            redemption_time_ms=None if silence is None else max(silence, self.silence_duration_ms),
        )


NO_FLOOR = TurnFloor()


class ServerVad(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a file is cut: a threshold of speech, and milliseconds. None keeps the server's."""

    type: Literal["server_vad"] = "server_vad"
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    prefix_padding_ms: Ms | None = None
    silence_duration_ms: Ms | None = None

    def overrides(self) -> VadOverrides:
        """Return the endpointing that this means."""
        return VadOverrides(
            positive_speech_threshold=self.threshold,
            negative_speech_threshold=None if self.threshold is None else lower_threshold(self.threshold),
            pre_speech_pad_ms=self.prefix_padding_ms,
            redemption_time_ms=self.silence_duration_ms,
        )


def lower_threshold(threshold: float) -> float:
    """Return the probability below which a window is silence, for the one above which it is speech."""
    return round(max(0.0, threshold - 0.15), 6)


@dataclass(frozen=True, slots=True)
class FileRequest:
    """A request for a transcript. `options`: a JSON object for the model. `ignored`: fields that have no effect."""

    format: ResponseFormat = ResponseFormat.JSON
    is_stream: bool = False
    has_words: bool = False
    has_segments: bool = True
    has_logprobs: bool = False
    language: str | None = None
    options: bytes = b"{}"
    vad: VadOverrides = VadOverrides()
    ignored: tuple[str, ...] = ()


def read_request(
    fields: Sequence[tuple[str, str]], model: str, known_options: Sequence[str] = (), *, translate: bool = False
) -> FileRequest:
    """Return what the fields of a form ask for.

    `model`: the served one. `known_options`: names of the options that it reads. `translate`: into English. Lists come
    as repeated names with or without brackets. Raises BadRequest, naming the field.
    """
    form = _Form(fields)
    format_ = _response_format(form)
    granularities = form.all("timestamp_granularities")
    for each in granularities:
        if each not in _GRANULARITIES:
            raise BadRequest(field="timestamp_granularities", expected="word or segment", got=each)
    if granularities and format_ is not ResponseFormat.VERBOSE_JSON:
        expected = "response_format verbose_json with them"
        raise BadRequest(field="timestamp_granularities", expected=expected, got=format_.value)
    is_stream = _is_true(form, "stream")
    if is_stream and format_ not in _STREAMED:
        raise BadRequest(field="stream", expected="response_format json or text with it", got=format_.value)
    model_name = form.one("model")
    options = _options(form, translate=translate)
    ignored = {name for name in form.names if name in _WITHOUT_EFFECT or name not in _KNOWN}
    ignored.update(name for name in options if name not in known_options)
    if model_name and model_name != model:
        ignored.add("model")
    return FileRequest(
        format=format_,
        is_stream=is_stream,
        has_words="word" in granularities,
        has_segments="segment" in granularities or not granularities,
        has_logprobs="logprobs" in form.all("include"),
        language=form.one("language") or None,
        options=msgspec.json.encode({name: value for name, value in options.items() if name in known_options}),
        vad=_vad(form),
        ignored=tuple(sorted(ignored)),
    )


class _Form:
    """The fields of a form, by names without brackets."""

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self._fields = [(_bare(name), value) for name, value in fields]
        self.names = {name.partition("[")[0] for name, _ in self._fields}

    def all(self, name: str) -> list[str]:
        return [value for other, value in self._fields if other == name]

    def one(self, name: str) -> str:
        """Return the last value of a field, or an empty string."""
        return (self.all(name) or [""])[-1].strip()

    def nested(self, name: str) -> dict[str, str]:
        """Return the values of `name[key]` by their keys."""
        prefix = f"{name}["
        found = [(other.removeprefix(prefix), value) for other, value in self._fields if other.startswith(prefix)]
        return {key.removesuffix("]"): value for key, value in found}


def _bare(name: str) -> str:
    return name.removesuffix("[]")


def _response_format(form: _Form) -> ResponseFormat:
    text = form.one("response_format") or ResponseFormat.JSON.value
    if text not in list(ResponseFormat):
        expected = f"one of {', '.join(ResponseFormat)}"
        raise BadRequest(field="response_format", expected=expected, got=text)
    return ResponseFormat(text)


def _is_true(form: _Form, name: str) -> bool:
    text = form.one(name).lower()
    if text not in _TRUE | _FALSE:
        raise BadRequest(field=name, expected="true or false", got=text)
    return text in _TRUE


def _options(form: _Form, *, translate: bool) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, limit in (("language", _MAX_LANGUAGE), ("prompt", _MAX_PROMPT)):
        if text := form.one(name):
            if len(text) > limit:
                raise BadRequest(field=name, expected=f"at most {limit} characters", got=f"{len(text)} characters")
            options[name] = text
    if text := form.one("temperature"):
        options["temperature"] = _number("temperature", text, 1.0)
    if translate:
        options["task"] = "translate"
    return options


def _number(name: str, text: str, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= high:
        raise BadRequest(field=name, expected=f"a number from 0 to {high:g}", got=text)
    return value


def _vad(form: _Form) -> VadOverrides:
    """Read how the file is to be cut: `auto`, an object in JSON, or its members in brackets."""
    text, nested = form.one(_STRATEGY), form.nested(_STRATEGY)
    if text in ("", "auto", "null") and not nested:
        return VadOverrides()
    try:
        if nested:
            return msgspec.convert(nested, ServerVad, strict=False).overrides()
        return msgspec.json.decode(text, type=ServerVad).overrides()
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError):
        expected = "auto, or an object of the type server_vad with threshold, prefix_padding_ms, silence_duration_ms"
        raise BadRequest(field=_STRATEGY, expected=expected, got=text or str(nested)) from None
