"""Your function in, a production streaming audio API out."""

__version__ = "0.1.0"
