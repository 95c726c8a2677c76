"""The protocol of Deepgram's clients: live transcription at `/v1/listen`, turns at `/v2/listen`, recordings by POST."""
