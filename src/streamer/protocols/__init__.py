"""Dialects: frames to messages, events to frames."""
