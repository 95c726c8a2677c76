"""Deepgram's protocol: `/v1/listen` for live audio, and by POST for files; `/v2/listen` for turns."""

from streamer.dialects.deepgram.mounting import mount

__all__ = ["mount"]
