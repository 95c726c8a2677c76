"""The page at `/` comes whole, from this server alone, and only where it is wanted."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files

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
        named += [f"page/{name}" for name in re.findall(r'from "\./([^"]+)"', script)]
        for name in named:
            async with http.get(f"{app.url}/{name}") as answer:
                assert answer.status == 200, name
        assert not re.findall(r"https?://", html + script)


async def test_the_page_can_be_left_out(http: aiohttp.ClientSession) -> None:
    settings = Settings(server={"port": 0, "page": False}, grpc={"port": 0})
    async with App(settings) as app, http.get(f"{app.url}/") as answer:
        assert answer.status == 404


def said(expression: str) -> object:
    """Return the value of an expression over the functions of words.js."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    words = str(files("streamer.transports.page").joinpath("words.js"))
    program = f"import(process.argv[1]).then((w) => console.log(JSON.stringify({expression})))"
    done = subprocess.run([node, "-e", program, words], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def test_the_page_never_calls_a_stream_whole_that_has_failed_segments() -> None:
    whole = said("w.ending({segments: 1, failed: 0, received: 32000}, 16000)")
    assert whole == {"text": "Done: 1 result for 2.0 s of audio.", "failed": False}
    lacking = said("w.ending({segments: 1, failed: 2, received: 32000}, 16000)")
    assert lacking == {
        "text": "Done, but 2 segments failed and have no result. 1 result for 2.0 s of audio.",
        "failed": True,
    }


@pytest.mark.parametrize("name", ["NotAllowedError", "NotFoundError", "NotReadableError", "EncodingError"])
def test_the_page_says_what_to_do_about_an_error_of_the_browser(name: str) -> None:
    text = str(said(f"w.browserError({{name: '{name}', message: 'Permission denied'}}, 'a.xyz')"))
    assert "Permission denied" not in text
    assert re.search(r"press Speak again|Choose a WAV", text)


def test_the_page_has_no_row_for_an_output_without_text() -> None:
    assert said("[null, undefined, {text: ''}, {text: 'a'}, {n: 1}].map(w.outputText)") == ["", "", "", "a", '{"n":1}']
