"""Transcripts: their shape, their stable part, and captions."""
