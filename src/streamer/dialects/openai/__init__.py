"""OpenAI's API: transcripts of files, transcription in real time, the list of models, client secrets."""

from __future__ import annotations

from streamer.dialects.openai.mounting import mount

__all__ = ["mount"]
