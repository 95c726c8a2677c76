"""Several models from one settings file: served, announced, checked, and refused with the section that is wrong."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import streamer
from streamer.audio.format import AudioFormat, Encoding
from streamer.cli.inprocess import serving_here
from streamer.cli.serve import _print_ready
from streamer.client import Segment, Started
from streamer.config import load
from streamer.session.messages import Start
from streamer.supervision.ipc import Ready
from streamer.telemetry.scrape import Scrape
from tests.cli.serving import Server, environment, refused, served

FILE = """
[models.english]
model = "stub"

[models.any]
model = "stub"
executor = "process"
load = "first_use"
load_wait_s = 300
delay = 0.001

[models.any.engine]
max_expected_wait_s = 5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "several.toml"
    path.write_text(FILE)
    return path


async def asked(url: str) -> str:
    """The model by which a stream is answered."""
    async with streamer.connect(url, sample_rate=16_000) as stream:
        await stream.send(b"\0\0" * 16_000)
        await stream.stop()
        said = [event async for event in stream]
    assert isinstance(said[0], Started)
    assert any(isinstance(event, Segment) for event in said)
    return said[0].model.name


def scraped(server: Server) -> Scrape:
    with urllib.request.urlopen(f"{server.url}/metrics") as answer:
        return Scrape.parse(answer.read().decode(), 0.0)


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_file_of_several_models_is_served_by_one_process_or_more(file: Path, processes: str) -> None:
    with served("--config", str(file), "--workers", processes, "--set", "server.metrics=open") as server:
        base = f"{server.websocket_url}/api/v2"
        assert await asked(f"{base}/simple") == "english"
        for _ in range(4):
            assert await asked(f"{base}/models/any/simple") == "any"
        scrape = await asyncio.to_thread(scraped, server)
        assert scrape.by("sessions_started_total", "model") == {"english": 1, "any": 4}
        assert scrape.sum("workers", model="english") == int(processes)
        server.signal(signal.SIGTERM)
        assert server.ended()[0] == 0


def test_the_announcement_names_all_models(capsys: pytest.CaptureFixture[str]) -> None:
    _print_ready(Ready("http://localhost:1", None, "english", 16_000, ("english", "any")), 1, 1.0, as_log=False)
    assert "models english, any (default: english), ready in 1.0 s" in capsys.readouterr().err


def test_a_wrong_parameter_of_one_of_several_models_names_its_section_and_the_file(file: Path) -> None:
    file.write_text(FILE.replace("delay", "dely"))
    code, said = refused("--config", str(file), "--port", "0")
    assert code == 2
    assert said.startswith(f"error: {file}: models.any.dely: expected one of ")


def test_a_flag_changes_a_setting_of_one_of_several_models(file: Path) -> None:
    code, said = refused("--config", str(file), "--port", "0", "--set", "models.any.load=later")
    assert code == 2
    assert said == "error: --set: models.any.load: expected 'start' or 'first_use', got 'later'\n"


def test_the_printed_settings_of_several_models_are_a_file_of_the_same_settings(file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streamer", "serve", "--print-config", "--config"]

    def printed(path: Path) -> str:
        return subprocess.run([*command, path], env=environment(), capture_output=True, text=True, check=True).stdout

    again = tmp_path / "printed.toml"
    again.write_text(printed(file))
    assert "[models.any]" in again.read_text()
    unsourced = [line.partition("  # from ")[0] for line in again.read_text().splitlines()]
    assert [line.partition("  # from ")[0] for line in printed(again).splitlines()] == unsourced


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_model_that_is_none_of_several_is_one_line_and_exit_2(file: Path, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamer", command, "stub", "--config", file],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: MODEL: server.model: expected the name of one of the models (english, any)")


async def test_a_command_without_a_server_uses_the_default_of_several_models(file: Path) -> None:
    file.write_text(
        FILE.replace('[models.english]\nmodel = "stub"', '[models.english]\nmodel = "stub"\nload = "first_use"')
    )
    form = AudioFormat(Encoding.PCM_S16LE, 16_000, 1)
    async with serving_here(load(file, environ={}).settings) as local, local.stream(Start(form)) as stream:
        await stream.stop()
        assert [event.model.name async for event in stream if isinstance(event, Started)] == ["english"]


@pytest.mark.parametrize(("names", "shown"), [((), ["english", "any"]), (("any",), ["any"])])
def test_each_of_several_models_is_checked_or_the_one_that_is_named(
    file: Path, names: tuple[str, ...], shown: list[str]
) -> None:
    command = [sys.executable, "-m", "streamer", "check", *names, "--config", file]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert [line.strip() for line in done.stdout.splitlines() if line.startswith("[models.")] == [
        f"[models.{name}]" for name in shown
    ]


def test_a_check_of_several_models_fails_if_one_of_them_does(file: Path) -> None:
    file.write_text(FILE.replace("delay = 0.001", "failure_rate = 1.0"))
    command = [sys.executable, "-m", "streamer", "check", "--config", file]
    assert subprocess.run(command, env=environment(), capture_output=True, check=False).returncode == 1
