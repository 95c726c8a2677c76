"""How this package was built."""

from __future__ import annotations

from pathlib import Path


def compiled() -> bool:
    """Whether the way of a message is machine code here (docs/design/compiled.md)."""
    from streamer.session import session  # noqa: PLC0415 (whoever asks pays)

    return Path(str(session.__file__)).suffix != ".py"
