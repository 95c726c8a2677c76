"""A recording's transcript as a file: plain text, SubRip, WebVTT, JSON, tab-separated values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from types import MappingProxyType

import msgspec

from streamer.transcripts.captions import Cue, cues
from streamer.transcripts.transcript import Transcript, Word, words_of


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """The final of one segment: seconds of the recording, its text, and its words with their times."""

    start_time: float
    end_time: float
    text: str
    words: list[Word] = []

    @classmethod
    def of(cls, transcript: Transcript, start_time: float, end_time: float) -> Part:
        """Return the part of a segment; times of words are estimated when the model gave none."""
        return cls(start_time, end_time, transcript.text, list(words_of(transcript, start_time, end_time)))


def txt(parts: Sequence[Part]) -> str:
    """Return one line for each segment that has text."""
    return "".join(f"{part.text}\n" for part in parts if part.text)


def srt(parts: Sequence[Part]) -> str:
    """Return SubRip, which most players read."""
    return "\n".join(
        f"{number}\n{_clock(cue.start_time, ',')} --> {_clock(cue.end_time, ',')}\n{cue.text}\n"
        for number, cue in enumerate(_captions(parts), 1)
    )


def vtt(parts: Sequence[Part]) -> str:
    """Return WebVTT, which browsers read."""
    return "WEBVTT\n" + "".join(
        f"\n{_clock(cue.start_time, '.')} --> {_clock(cue.end_time, '.')}\n{escape(cue.text, quote=False)}\n"
        for cue in _captions(parts)
    )


def json(parts: Sequence[Part]) -> str:
    """Return one object: `text`, and `segments` with their words."""
    text = " ".join(part.text for part in parts if part.text)
    return msgspec.json.format(msgspec.json.encode({"text": text, "segments": list(parts)})).decode() + "\n"


def tsv(parts: Sequence[Part]) -> str:
    """Return a table: start and end in milliseconds, text."""
    rows = [
        f"{round(part.start_time * 1000)}\t{round(part.end_time * 1000)}\t{' '.join(part.text.split())}\n"
        for part in parts
        if part.text
    ]
    return "start\tend\ttext\n" + "".join(rows)


FORMATS: Mapping[str, Callable[[Sequence[Part]], str]] = MappingProxyType(
    {"txt": txt, "srt": srt, "vtt": vtt, "json": json, "tsv": tsv}
)
"""By the suffix of the file."""


def _captions(parts: Sequence[Part]) -> list[Cue]:
    return cues([word for part in parts for word in part.words])


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
