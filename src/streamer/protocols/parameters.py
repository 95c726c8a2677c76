"""Typed reading of a request's query. An error names the parameter, the expected and the received value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from streamer.errors import BadRequest

_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_MAX_DIGITS = 9
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
"""A number that is not negative."""


class Parameters:
    """The parameters of one request, which remember the names that were read."""

    def __init__(self, query: Sequence[tuple[str, str]]) -> None:
        """`query`: names and values in their order. Of several values for one name, the last one counts."""
        self._values: dict[str, list[str]] = {}
        for name, value in query:
            self._values.setdefault(name, []).append(value)
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def texts(self, name: str) -> list[str]:
        """Return all values of a parameter."""
        self._read.add(name)
        return list(self._values.get(name, ()))

    def text(self, name: str) -> str | None:
        """Return a parameter as it came; None if it is missing."""
        values = self.texts(name)
        return values[-1] if values else None

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean, in any case. Raises BadRequest."""
        value = self.text(name)
        if value is None:
            return default
        if value.lower() not in _FLAGS:
            raise BadRequest(field=name, expected="true or false", got=value)
        return _FLAGS[value.lower()]

    def integer(self, name: str, low: int, high: int) -> int | None:
        """Return an integer from `low` to `high`; None if the parameter is missing. Raises BadRequest."""
        value = self.text(name)
        if value is None:
            return None
        number = int(value) if value.isascii() and value.isdecimal() and len(value) <= _MAX_DIGITS else -1
        if not low <= number <= high or number < 0:
            raise BadRequest(field=name, expected=f"an integer from {low} to {high}", got=value)
        return number

    def number(self, name: str, low: float, high: float) -> float | None:
        """Return a number from `low` to `high`; None if the parameter is missing. Raises BadRequest."""
        value = self.text(name)
        if value is None:
            return None
        number = float(value) if _NUMBER.fullmatch(value) else -1.0
        if not low <= number <= high:
            raise BadRequest(field=name, expected=f"a number from {low:g} to {high:g}", got=value)
        return number

    def refuse(self, names: Iterable[str], why: str) -> None:
        """Raise BadRequest for the first of these parameters that the request has with a value other than false."""
        for name in names:
            value = self.text(name)
            if value is not None and value.lower() not in ("false", "0"):
                raise BadRequest(field=name, expected=f"no such parameter: {why}", got=value)

    def unread(self) -> tuple[str, ...]:
        """Return the names that nothing has read, in the order of the request."""
        return tuple(name for name in self._values if name not in self._read)
