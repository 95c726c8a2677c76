"""`streamer serve` from outside: what it says, when it ends, and how."""

from __future__ import annotations

import json
import os
import signal
import socket
import tomllib
from pathlib import Path

import aiohttp
import pytest
from typer.testing import CliRunner

from streamer.cli import app
from streamer.cli.serve import _print_ready
from streamer.config import Settings, load
from streamer.supervision.ipc import Ready
from tests.cli.serving import refused, served
from tests.faults.arena import FORMAT, SECOND

QUICK = ("--set", "drain.lag_s=0.2", "--set", "drain.soft_s=0.4", "--set", "drain.spread_s=0")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "abc"], "--port: server.port: expected a valid integer, got 'abc'"),
        (["--set", "server.prot=1"], "--set: server.prot: expected a known setting (did you mean port?)"),
        (["--set", "port"], "--set: expected section.key=value, got 'port'"),
        (["--config", "none.toml"], "none.toml: cannot be read"),
        (["no_such_module:model"], "no module named 'no_such_module'"),
        (["nonsense"], "no model 'nonsense'"),
        (["--set", "model.delai=1"], "--set: model.delai: expected one of"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_2(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("STREAMER_")]:
        monkeypatch.delenv(name)
    done = CliRunner().invoke(app, ["serve", *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_wrong_setting_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model": {"delay": "slow"}}))
    assert refused("--config", str(file)) == (2, f"error: {file}: model.delay: expected float, got 'slow'\n")


def test_a_wrong_variable_is_named() -> None:
    code, said = refused(STREAMER_SERVER__PORT="70000")
    assert (code, said.startswith("error: STREAMER_SERVER__PORT: server.port: ")) == (2, True)


def test_a_port_that_is_taken_is_one_line_and_exit_1() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refused("--port", str(port)) == (
            1,
            f"error: cannot listen on 127.0.0.1:{port}: address already in use\n",
        )


def test_the_printed_settings_are_a_file_of_the_same_settings(tmp_path: Path) -> None:
    arguments = ["--print-config", "--port", "9", "--set", "model.delay=0.5", "--set", "vad.redemption_time_ms=300"]
    done = CliRunner().invoke(app, ["serve", *arguments], env={"STREAMER_SERVER__PORT": None})
    file = tmp_path / "printed.toml"
    file.write_text(done.stdout)
    assert set(tomllib.loads(done.stdout)) == set(Settings.model_fields)
    settings = load(file, environ={}).settings
    assert settings == Settings(server={"port": 9}, model={"delay": 0.5}, vad={"redemption_time_ms": 300})
    assert "port = 9  # from --port" in done.stdout


async def test_the_originals_settings_serve_and_sigterm_sees_a_live_stream_out(tmp_path: Path) -> None:
    original = {
        "delay": 0.05,
        "constant_factor": 0.03,
        "jitter": 0.02,
        "failure_rate": 0.0,
        "panic_rate": 0.0,
        "warmup_penalty": 1.0,
    }
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model": original}))
    with served("stub", "--config", str(file), *QUICK) as server:
        async with aiohttp.ClientSession() as http:
            async with http.get(server.url + "/readyz") as response:
                assert response.status == 200
            async with http.ws_connect(server.websocket_url + "/api/v2/simple") as stream:
                await stream.send_json({"type": "start", "format": FORMAT})
                await stream.send_bytes(SECOND)
                assert (await stream.receive_json())["type"] == "started"
                server.signal(signal.SIGTERM)
                heard = [message.json() async for message in stream]
                assert stream.close_code == 1012
        kinds = [event["type"] for event in heard]
        assert "draining" in kinds
        assert (heard[-1]["type"], heard[-1]["reason"], heard[-1]["processed"]) == ("finished", "drained", 16_000)
        code, said = server.ended()
        assert code == 0
        assert "Traceback" not in said


async def test_a_second_signal_means_now() -> None:
    with served("stub", "--set", "drain.soft_s=60", "--set", "drain.hard_s=60") as server:
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(server.websocket_url + "/api/v2/simple") as stream,
        ):
            await stream.send_json({"type": "start", "format": FORMAT})
            assert (await stream.receive_json())["type"] == "started"
            server.signal(signal.SIGINT)
            assert (await stream.receive_json())["type"] == "draining"
            async with http.get(server.url + "/readyz") as response:
                assert (response.status, (await response.json())["reason"]) == (503, "draining")
            server.signal(signal.SIGTERM)
            message = await stream.receive()
            assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        code, said = server.ended()
        assert code == 0
        assert "second signal received: 1 sessions are cut off now" in said


def test_an_idle_server_ends_at_once_on_ctrl_c() -> None:
    with served("stub", "--set", "drain.soft_s=60", "--set", "drain.hard_s=60") as server:
        server.signal(signal.SIGINT)
        assert server.ended()[0] == 0


def test_the_announcement_names_the_protocols_of_other_services(capsys: pytest.CaptureFixture[str]) -> None:
    ready = Ready("http://localhost:1", None, "moonshine", 16_000, dialects=("openai", "wyoming (port 10300)"))
    _print_ready(ready, 1, 1.0, as_log=False)
    assert "protocols of other services: openai, wyoming (port 10300)\n" in capsys.readouterr().err
