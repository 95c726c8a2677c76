"""Bytes to samples to windows, in pure stages: each has push(x) -> y and flush() -> y."""
