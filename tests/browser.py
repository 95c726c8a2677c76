"""A real Chromium on the page, driven over its DevTools protocol, whose microphone is a file."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
"""None if none is installed."""
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-background-networking",
    "--remote-debugging-port=0",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)


class Browser:
    """One page of a browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._sent = 0

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of the DevTools protocol, and return its result."""
        self._sent += 1
        await self._socket.send_json({"id": self._sent, "method": method, "params": parameters})
        while (answer := await self._socket.receive_json()).get("id") != self._sent:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def run(self, script: str) -> Any:
        """Evaluate JavaScript on the page, as if by a gesture of its user; return its value."""
        result = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, json.dumps(result["exceptionDetails"])[:500]
        return result["result"].get("value")

    async def until(self, condition: str, timeout_s: float = 60.0) -> None:
        """Wait until a JavaScript expression is true."""
        async with asyncio.timeout(timeout_s):
            while not await self.run(condition):
                await asyncio.sleep(0.05)


@asynccontextmanager
async def browsing(url: str, microphone: Path) -> AsyncIterator[Browser]:
    """Open a page in a browser of its own. `microphone`: a WAV file that is heard once."""
    assert CHROMIUM is not None
    with TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM,
            *_FLAGS,
            f"--use-file-for-fake-audio-capture={microphone}%noloop",
            f"--user-data-dir={profile}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(60), aiohttp.ClientSession() as http:
                port = await _port_of(Path(profile) / "DevToolsActivePort")
                async with http.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    [target] = [one for one in await answer.json() if one["type"] == "page"]
            async with (
                aiohttp.ClientSession() as http,
                http.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket,
            ):
                browser = Browser(socket)
                await browser.call("Page.navigate", url=url)
                await browser.until("document.readyState === 'complete' && location.protocol === 'http:'")
                yield browser
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _port_of(file: Path) -> str:
    while not (file.exists() and (lines := file.read_text().splitlines())):
        await asyncio.sleep(0.05)
    return lines[0]
