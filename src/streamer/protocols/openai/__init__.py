"""OpenAI's protocols: files by HTTP, and transcription in real time over WebSocket. Pure: no I/O, no clock."""
