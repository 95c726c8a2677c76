"""Bytes to samples to windows: pure stages, each push(x) -> y and flush() -> y."""
