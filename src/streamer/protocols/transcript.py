"""A model's output as a transcript, for the codecs of dialects."""

from __future__ import annotations

import msgspec

from streamer.transcripts.transcript import Transcript

_decoder = msgspec.json.Decoder(str | Transcript)


def transcript_of(output: msgspec.Raw) -> Transcript | None:
    """Return the transcript of a segment, with its text trimmed; None for an output that is not one.

    A string is a transcript with that text. Unknown fields of an object are ignored.
    """
    try:
        decoded = _decoder.decode(output)
    except (msgspec.DecodeError, RecursionError):
        return None
    transcript = Transcript(decoded) if isinstance(decoded, str) else decoded
    transcript.text = transcript.text.strip()
    return transcript
