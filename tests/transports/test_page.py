"""The page at `/` comes whole, from this server alone, and only where it is wanted."""

from __future__ import annotations

import re

import aiohttp
import pytest

from streamer.app import App
from streamer.config import Settings


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


async def test_the_page_has_all_that_it_names_and_names_nothing_elsewhere(http: aiohttp.ClientSession) -> None:
    async with App(Settings(server={"port": 0}, grpc={"port": 0})) as app:
        async with http.get(f"{app.url}/") as answer:
            html = await answer.text()
            assert answer.status == 200
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        named = re.findall(r'(?:href|src)="([^"]+)"', html)
        assert named
        async with http.get(f"{app.url}/page/page.js") as answer:
            script = await answer.text()
        for module in re.findall(r'from "\./([^"]+)"', script):
            async with http.get(f"{app.url}/page/{module}") as answer:
                assert answer.status == 200, module
                script += await answer.text()
        named += re.findall(r'addModule\("([^"]+)"\)', script)
        for name in named:
            async with http.get(f"{app.url}/{name}") as answer:
                assert answer.status == 200, name
        assert not re.findall(r"https?://", html + script)


async def test_the_page_can_be_left_out(http: aiohttp.ClientSession) -> None:
    settings = Settings(server={"port": 0, "page": False}, grpc={"port": 0})
    async with App(settings) as app, http.get(f"{app.url}/") as answer:
        assert answer.status == 404
