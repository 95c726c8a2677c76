"""A listener to the feed of calls, for clients that are told nothing themselves."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp

from streamer.app import App


class CallFeedReader:
    """All events of the feed by their call."""

    def __init__(self) -> None:
        self._events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._news = asyncio.Condition()

    async def call(self, call_id: str) -> list[dict[str, Any]]:
        """Return the events of a call, once it has ended."""
        async with self._news:
            await self._news.wait_for(lambda: self.kinds(call_id)[-1:] == ["call_ended"])
        assert self.kinds(call_id).count("call_started") == self.kinds(call_id).count("call_ended") == 1
        return self._events[call_id]

    def kinds(self, call_id: str) -> list[str]:
        """Return the types of the events of a call so far."""
        return [event["type"] for event in self._events[call_id]]

    async def read(self, content: aiohttp.StreamReader) -> None:
        """Take the events of the feed until it ends."""
        while line := await content.readline():
            if line.startswith(b"data: "):
                event = json.loads(line.removeprefix(b"data: "))
                async with self._news:
                    self._events[event["call_id"]].append(event)
                    self._news.notify_all()


@asynccontextmanager
async def listening_to_calls(app: App, headers: Mapping[str, str]) -> AsyncIterator[CallFeedReader]:
    """Listen to all calls for a block. `headers`: of the request."""
    feed = CallFeedReader()
    async with aiohttp.ClientSession() as http, http.get(app.url + "/v1/calls", headers=headers) as response:
        assert await response.content.readline() == b": listening\n"
        task = asyncio.create_task(feed.read(response.content))
        try:
            yield feed
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
