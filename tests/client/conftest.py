"""The client library runs on the loop of the program that uses it: asyncio's own, or the server's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from streamer.supervision.single_process import loop_factory


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return both loops: each test runs once on either."""
    return {"asyncio": asyncio.new_event_loop, "served": loop_factory()}
