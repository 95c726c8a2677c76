"""Parameters that all of Deepgram's paths have: the format of the audio, options of the model, what is ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streamer.audio.format import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, AudioFormat, Encoding
from streamer.errors import BadRequest, InvalidFormat
from streamer.media.formats import Container, MediaFormat, provisional
from streamer.protocols.parameters import Parameters
from streamer.session.settings import SessionSettings

MULTILINGUAL = "multi"
"""The language of speech in several languages."""
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
_MODEL = ("model", "version", "tier")
"""Parameters that select a model."""
_LISTS = frozenset({"keyterm", "keywords", "replace", "search", "tag", "extra", "language_hint"})
"""Parameters that may occur several times."""
_PASSED = (
    "language", "language_hint", "keyterm", "keywords", "punctuate", "smart_format", "numerals", "filler_words",
    "dictation", "replace", "search", "detect_entities", "extra", "tag", *_MODEL,
)  # fmt: skip
"""Parameters that are passed on to a model that reads them."""


@dataclass(frozen=True, slots=True)
class ListenPolicy:
    """Settings of the server for requests.

    `min_silence_ms`: shortest silence by which a client may end an utterance. `model_options`: names of the options
    that the model reads; `model`: its name. `refuse_ignored`: a parameter without effect is an error.
    """

    session: SessionSettings
    min_silence_ms: int = 300
    model_options: tuple[str, ...] = ()
    model: str = ""
    refuse_ignored: bool = False

    @property
    def max_silence_ms(self) -> float:
        """Longest silence by which a client may end an utterance."""
        return max(self.session.limits.max_redemption_ms, self.session.vad.redemption_time_ms)


def refuse_unsafe(parameters: Parameters) -> None:
    """Raise BadRequest for parameters that callers rely on for safety, or by which results would go elsewhere."""
    parameters.refuse(_REFUSED, "this server does not change or forward transcripts")


def read_format(
    parameters: Parameters, settings: SessionSettings
) -> tuple[AudioFormat, MediaFormat | None, AudioFormat | None, int]:
    """Return the format, of compressed audio too; that of PCM before it is mixed; and the number of channels."""
    encoding = parameters.text("encoding")
    rate = parameters.integer("sample_rate", MIN_SAMPLE_RATE, MAX_SAMPLE_RATE)
    channels = parameters.integer("channels", 1, settings.limits.max_channels)
    separate = parameters.flag("multichannel")
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


def read_options(parameters: Parameters, policy: ListenPolicy) -> dict[str, Any]:
    """Return the parameters that the model reads, as its options."""
    options: dict[str, Any] = {}
    for name in _PASSED:
        if name not in parameters or name not in policy.model_options:
            continue
        values = parameters.texts(name)
        if name != "language" or values[-1] != MULTILINGUAL:
            options[name] = values if name in _LISTS else values[-1]
    return options


def read_ignored(parameters: Parameters, policy: ListenPolicy) -> tuple[str, ...]:
    """Return the parameters without effect. Raises BadRequest if the server refuses them."""
    unread = parameters.unread()
    known = {"access_token", "model"} if parameters.text("model") == policy.model else {"access_token"}
    ignored = [name for name in unread if name not in known]
    if "language" in parameters and "language" not in policy.model_options:
        ignored.append("language")
    refused = [name for name in ignored if name not in _MODEL]
    if policy.refuse_ignored and refused:
        expected = "no parameter without effect (dialects.unsupported_parameters)"
        raise BadRequest(field=refused[0], expected=expected, got=parameters.text(refused[0]))
    return tuple(ignored)
