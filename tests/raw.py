"""A model's output as events carry it."""

from __future__ import annotations

from typing import Any

import msgspec


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def read(encoded: msgspec.Raw) -> Any:
    return msgspec.json.decode(encoded)
