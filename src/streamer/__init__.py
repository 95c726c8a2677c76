"""Your function in, a production streaming audio API out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamer.audio.format import AudioFormat, Encoding
    from streamer.audio.seams import Crossfade, OverlapAdd
    from streamer.client.stream import connect
    from streamer.errors import ModelFailed
    from streamer.media.formats import Container, MediaFormat
    from streamer.models.contract import AudioOut, AudioSegment, Model, StreamInfo, StreamingModel, model
    from streamer.session.messages import AudioOutFormat
    from streamer.transcripts.transcript import Transcript, Word

__version__ = "0.1.0"

__all__ = [
    "AudioFormat",
    "AudioOut",
    "AudioOutFormat",
    "AudioSegment",
    "Container",
    "Crossfade",
    "Encoding",
    "MediaFormat",
    "Model",
    "ModelFailed",
    "OverlapAdd",
    "StreamInfo",
    "StreamingModel",
    "Transcript",
    "Word",
    "__version__",
    "connect",
    "model",
]

_HOME = {
    "AudioFormat": "streamer.audio.format",
    "AudioOut": "streamer.models.contract",
    "AudioOutFormat": "streamer.session.messages",
    "Crossfade": "streamer.audio.seams",
    "Container": "streamer.media.formats",
    "Encoding": "streamer.audio.format",
    "MediaFormat": "streamer.media.formats",
    "Model": "streamer.models.contract",
    "ModelFailed": "streamer.errors",
    "OverlapAdd": "streamer.audio.seams",
    "AudioSegment": "streamer.models.contract",
    "StreamInfo": "streamer.models.contract",
    "StreamingModel": "streamer.models.contract",
    "Transcript": "streamer.transcripts.transcript",
    "Word": "streamer.transcripts.transcript",
    "connect": "streamer.client.stream",
    "model": "streamer.models.contract",
}


_RENAMED = {"Segment": "AudioSegment"}
"""Old names, accepted until the next release."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562), so that `import streamer` is fast."""
    if name in _RENAMED:
        from warnings import warn  # noqa: PLC0415

        warn(f"streamer.{name} is called streamer.{_RENAMED[name]} now", DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
