"""Information about the build of this package."""

from __future__ import annotations

from pathlib import Path


def compiled() -> bool:
    """Return whether the message path is compiled (docs/design/compiled.md)."""
    from streamer.session import session  # noqa: PLC0415 (only needed here)

    return Path(str(session.__file__)).suffix != ".py"
