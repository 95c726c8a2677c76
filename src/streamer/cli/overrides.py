"""Settings from flags: `--set KEY=VALUE` and its shorthands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from streamer.config import Override


def overrides(pairs: Iterable[str], *flags: tuple[str, str, str | None]) -> Iterator[Override]:
    """Yield settings. `pairs`: KEY=VALUE. `flags`: (flag, key of its setting, its value or None)."""
    from streamer.config import Override

    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or "." not in key:
            typer.echo(f"error: --set: expected section.key=value, got {pair!r}", err=True)
            raise typer.Exit(2)
        yield Override("--set", key, value)
    for flag, setting, text in flags:
        if text is not None:
            yield Override(flag, setting, text)
