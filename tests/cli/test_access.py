"""`streamer key` and `streamer token`, and what they print against a real server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from typer.testing import CliRunner

from streamer.cli import app
from tests.cli.serving import environment, refused, served


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("STREAMER_")]:
        monkeypatch.delenv(name)


def test_a_key_needs_no_name_and_its_commands_are_told() -> None:
    done = CliRunner().invoke(app, ["key", "new"])
    key, kept = (line.split()[1] for line in done.stdout.splitlines())
    assert kept.startswith("default:")
    assert f"STREAMER_ACCESS__KEYS={kept} streamer serve" in done.stderr
    assert f"STREAMER_TOKEN={key} streamer client" in done.stderr


async def status(url: str, secret: str | None) -> int:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    async with aiohttp.ClientSession() as http:
        try:
            async with http.ws_connect(f"{url}/api/v2/simple", headers=headers):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status


def test_what_the_commands_print_opens_a_server_and_stays_out_of_its_log(tmp_path: Path) -> None:
    key, kept = (line.split()[1] for line in run("key", "new", "alice").splitlines())
    secrets = tmp_path / "secrets"
    secrets.write_text(run("token", "secret"))
    token = run("token", "mint", "bob", "--secrets-file", str(secrets), "--ttl", "60")
    settings = {
        "STREAMER_ACCESS__KEYS": kept,
        "STREAMER_ACCESS__TOKEN_SECRETS_FILE": str(secrets),
        "STREAMER_LOG__LEVEL": "debug",
    }
    with served(**settings) as server:
        assert asyncio.run(status(server.url, None)) == 401
        assert asyncio.run(status(server.url, "sk_" + "x" * 43)) == 401
        assert asyncio.run(status(server.url, key)) == 101
        assert asyncio.run(status(server.url, token)) == 101
        server.process.terminate()
        _, said = server.ended()
    assert key not in said
    assert token not in said


def test_the_client_takes_a_key_from_the_environment(tmp_path: Path) -> None:
    key, kept = (line.split()[1] for line in run("key", "new", "alice").splitlines())
    weather = Path(__file__).parents[2] / "src/streamer/samples/weather.wav"
    with served(STREAMER_ACCESS__KEYS=kept) as server:
        command = [sys.executable, "-m", "streamer", "client", "--json", "-i", str(weather)]
        command += ["-a", f"{server.websocket_url}/api/v2/segmented"]

        def run_client(**variables: str) -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(command, env=environment(**variables), capture_output=True, timeout=60, check=False)

        with_key = run_client(STREAMER_TOKEN=key)
        without = run_client()
    assert with_key.returncode == 0, with_key.stderr
    assert without.returncode == 1
    assert b"authentication is required: send a key or a token" in without.stderr or b"401" in without.stderr


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("STREAMER_ACCESS__KEYS", "sk_secret", "STREAMER_ACCESS__KEYS: access.keys: expected subject:hash"),
        (
            "STREAMER_ACCESS__KEYS",
            "alice:sk_secret",
            "STREAMER_ACCESS__KEYS: access.keys: expected subject:hash, with the hash",
        ),
        ("STREAMER_ACCESS__TOKEN_SECRETS_FILE", "/none", "access.token_secrets_file: /none: cannot be read"),
        ("STREAMER_ACCESS__ORIGINS", "https://A.org", "access.origins: expected scheme://host[:port] in lower case"),
        ("STREAMER_SERVER__HOSTS", "asr.example.org:8080", "server.hosts: expected names in lower case without a port"),
        ("STREAMER_TLS__CERTIFICATE", "/none", "STREAMER_TLS__CERTIFICATE: tls: /none: cannot be read"),
        ("STREAMER_SERVER__METRICS_ADDRESS", "here", "server.metrics_address: expected host:port, got 'here'"),
    ],
)
def test_a_wrong_setting_of_access_is_one_line_without_secrets(variable: str, value: str, says: str) -> None:
    code, said = refused("--port", "0", **{variable: value})
    assert code == 2
    assert says in said.splitlines()[-1]
    assert "sk_secret" not in said


def test_a_public_address_without_a_key_is_warned_of() -> None:
    with served("--host", "0.0.0.0") as server:
        pass
    assert "NO AUTHENTICATION: anyone who can reach 0.0.0.0" in server.before
    with served("--host", "127.0.0.1") as server:
        pass
    assert "NO AUTHENTICATION" not in server.before


@pytest.mark.parametrize("arguments", [["key", "new", "a b"], ["token", "mint", "", "--secrets-file", "x"]])
def test_a_wrong_subject_is_one_line_and_exit_2(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
