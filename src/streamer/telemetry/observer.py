"""What happens in a server, told once by the conductor; metrics, logs and traces listen."""

from __future__ import annotations


class Observer:
    """Base of all listeners. Called on the event loop: a listener must not block and must not raise."""
