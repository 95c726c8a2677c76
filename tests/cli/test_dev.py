"""`streamer serve --dev` serves the model's file as it is now."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from streamer.cli.dev import model_file
from streamer.errors import ConfigError
from tests.cli.serving import environment, refused

MODEL = "import streamer\n\n\n@streamer.model(name={name!r})\ndef f(samples):\n    return {{}}\n"


async def until(process: asyncio.subprocess.Process, words: str) -> str:
    """Return the last word of the first line that begins with `words`."""
    assert process.stderr is not None
    said = []
    async for raw in process.stderr:
        said.append(raw.decode())
        if said[-1].startswith(words):
            return said[-1].split()[-1]
    raise AssertionError(f"it never said {words!r}: {''.join(said)}")


async def served_model(url: str) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/api/v2/info") as answer:
        return str((await answer.json())["model"]["name"])


async def test_a_model_is_served_anew_when_its_file_changes_even_after_one_that_cannot_be_loaded(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MODEL.format(name="first"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamer", "serve", "--dev", f"{path}:f", "--port", "0", "--grpc-port", "0"),
        env=environment(),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert await served_model(await until(process, "listening on")) == "first"
        path.write_text("undefined_name\n")
        await until(process, "mine.py changed: restarting")
        await until(process, "NameError: name 'undefined_name' is not defined")
        path.write_text(MODEL.format(name="second"))
        assert await served_model(await until(process, "listening on")) == "second"
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        await process.stderr.read()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_the_file_of_a_module_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raises_when_imported.py").write_text("raise SystemExit\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert model_file("raises_when_imported:f") == tmp_path / "raises_when_imported.py"


@pytest.mark.parametrize("spec", ["stub", "no_such_module:f", "no/such/file.py:f"])
def test_there_is_nothing_to_watch_of_a_model_that_is_not_the_authors(spec: str) -> None:
    with pytest.raises(ConfigError, match="--dev: expected your own model"):
        model_file(spec)


def test_a_plain_install_is_told_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "watchfiles.py").write_text("raise ModuleNotFoundError('it is not here')\n")
    code, said = refused("--dev", "mine:f", PYTHONPATH=str(tmp_path))
    assert (code, said) == (
        2,
        "error: --dev needs watchfiles: pip install 'streamer-audio[reload]' (it is not here)\n",
    )
