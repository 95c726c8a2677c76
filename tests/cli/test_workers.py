"""`streamer serve --workers`: real processes on one port, killed, drained, given up, counted as one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamer.access import mint, new_secret
from streamer.access.tokens import Claims, parse_secrets
from tests.cli.serving import Server, refused, served
from tests.faults.arena import FORMAT, SECOND

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="more than one process needs Linux")

QUICK = ("--set", "drain.lag_s=0.2", "--set", "drain.soft_s=0.4", "--set", "drain.spread_s=0", "--grpc-port", "0")
MEMBER = "streamer.supervision.worker"


@contextmanager
def workers(*arguments: str) -> Iterator[Server]:
    with served("stub", "--workers", "2", *QUICK, *arguments) as server:
        yield server


def members(server: Server) -> dict[int, psutil.Process]:
    """The serving processes, by pid."""
    children = psutil.Process(server.process.pid).children()
    return {child.pid: child for child in children if MEMBER in child.cmdline()}


def server_of(client: aiohttp.ClientWebSocketResponse, server: Server) -> int:
    """The pid of the process that a connection goes to."""
    port = client.get_extra_info("sockname")[1]
    for pid, process in members(server).items():
        if any(peer.raddr and peer.raddr.port == port for peer in process.net_connections("tcp")):
            return pid
    raise AssertionError(f"nobody serves port {port}")


class Streams:
    """Live streams over all serving processes."""

    def __init__(self, http: aiohttp.ClientSession, server: Server) -> None:
        self._http = http
        self._server = server
        self.by_pid: dict[int, list[aiohttp.ClientWebSocketResponse]] = {pid: [] for pid in members(server)}

    async def open(self, stack: AsyncExitStack) -> None:
        """Until every process has one: the kernel deals them out by chance."""
        while not all(self.by_pid.values()):
            client = await stack.enter_async_context(
                self._http.ws_connect(self._server.websocket_url + "/api/v2/simple")
            )
            await client.send_json({"type": "start", "format": FORMAT})
            assert (await client.receive_json())["type"] == "started"
            self.by_pid[server_of(client, self._server)].append(client)

    def __iter__(self) -> Iterator[aiohttp.ClientWebSocketResponse]:
        return (client for clients in self.by_pid.values() for client in clients)

    def __len__(self) -> int:
        return sum(map(len, self.by_pid.values()))


async def metrics(http: aiohttp.ClientSession, url: str) -> dict[str, float]:
    """Sums by name."""
    async with http.get(url + "/metrics", headers={"Connection": "close"}) as response:
        assert response.status == 200
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(await response.text()):
            for sample in family.samples:
                name = sample.name + "".join(f"/{value}" for value in sample.labels.values() if family.type == "gauge")
                sums[name] = sums.get(name, 0) + sample.value
        return sums


async def rest(client: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    return [message.json() async for message in client]


async def test_each_process_serves_and_metrics_are_of_all_whoever_is_asked() -> None:
    with workers() as server:
        async with aiohttp.ClientSession() as http, AsyncExitStack() as stack:
            streams = Streams(http, server)
            await streams.open(stack)
            for _ in range(8):
                seen = await metrics(http, server.url)
                assert seen["streamer_sessions_started_total"] == len(streams)
                assert seen["streamer_processes/serving"] == 2
                assert seen["streamer_ready"] == 1
            async with http.get(server.url + "/readyz") as response:
                assert response.status == 200


async def test_a_killed_process_is_replaced_and_nothing_counted_is_lost() -> None:
    with workers() as server:
        async with aiohttp.ClientSession() as http, AsyncExitStack() as stack:
            streams = Streams(http, server)
            await streams.open(stack)
            before = await metrics(http, server.url)
            killed, spared = members(server)
            os.kill(killed, signal.SIGKILL)
            for client in streams.by_pid[killed]:
                assert (await client.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
            after = await metrics(http, server.url)
            while after["streamer_processes/serving"] < 2:
                await asyncio.sleep(0.1)
                after = await metrics(http, server.url)
            assert set(members(server)) > {spared}
            assert after["streamer_sessions_started_total"] == before["streamer_sessions_started_total"]
            assert after["streamer_process_restarts_total"] == 1
            for client in streams.by_pid[spared]:
                await client.send_bytes(SECOND)
                await client.send_json({"type": "stop"})
                assert (await rest(client))[-1]["type"] == "finished"
        server.signal(signal.SIGTERM)
        code, said = server.ended()
        assert code == 0
        assert "was killed by SIGKILL: starting another one in 0.2 s" in said


async def test_sigterm_sees_the_streams_of_all_processes_out() -> None:
    with workers() as server:
        async with aiohttp.ClientSession() as http, AsyncExitStack() as stack:
            streams = Streams(http, server)
            await streams.open(stack)
            for client in streams:
                await client.send_bytes(SECOND)
            server.signal(signal.SIGTERM)
            for heard in await asyncio.gather(*map(rest, streams)):
                assert (heard[-1]["type"], heard[-1]["reason"], heard[-1]["processed"]) == (
                    "finished",
                    "drained",
                    16_000,
                )
            assert {client.close_code for client in streams} == {1012}
        code, said = server.ended()
        assert (code, "Traceback" in said) == (0, False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_to_the_whole_group_is_one_drain(number: signal.Signals) -> None:
    """As Ctrl-C on a terminal does, or systemd: the model's processes hear it, too, and go on answering."""
    with workers("--set", "model.executor=process", "--set", "model.delay=0.05") as server:
        async with aiohttp.ClientSession() as http, AsyncExitStack() as stack:
            streams = Streams(http, server)
            await streams.open(stack)
            for client in streams:
                await client.send_bytes(SECOND)
            for _ in range(2):  # it may be sent twice: `timeout` does so
                for process in psutil.Process(server.process.pid).children(recursive=True):
                    process.send_signal(number)
            server.signal(number)
            for heard in await asyncio.gather(*map(rest, streams)):
                assert (heard[-1]["reason"], heard[-1]["processed"]) == ("drained", 16_000)
        code, said = server.ended()
        assert (code, "starting again" in said) == (0, False)


async def test_a_second_signal_means_now_for_all() -> None:
    with workers("--set", "drain.soft_s=60", "--set", "drain.hard_s=60") as server:
        async with aiohttp.ClientSession() as http, AsyncExitStack() as stack:
            streams = Streams(http, server)
            await streams.open(stack)
            server.signal(signal.SIGINT)
            for client in streams:
                assert (await client.receive_json())["type"] == "draining"
            server.signal(signal.SIGTERM)
            for client in streams:
                assert (await client.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        assert server.ended()[0] == 0


async def test_a_supervisor_that_is_killed_takes_its_processes_with_it_after_their_drain() -> None:
    with workers("--set", "drain.lag_s=0.1", "--set", "drain.soft_s=0.1") as server:
        processes = members(server)
        async with aiohttp.ClientSession() as http, AsyncExitStack() as stack:
            streams = Streams(http, server)
            await streams.open(stack)
            server.process.kill()
            for heard in await asyncio.gather(*map(rest, streams)):
                assert heard[-1]["reason"] == "drained"
        _, alive = await asyncio.to_thread(psutil.wait_procs, list(processes.values()), timeout=20)
        assert alive == []


async def test_a_token_that_works_once_works_once_in_all_processes_together(tmp_path: Path) -> None:
    secret, now = new_secret(), int(time.time())
    file = tmp_path / "secrets"
    file.write_text(secret + "\n")
    token = mint(Claims("bob", "1", now, now + 60, once=True), parse_secrets(secret)[0])
    statuses = []
    with workers("--set", f"access.token_secrets_file={file}") as server:
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http,
            AsyncExitStack() as stack,
        ):
            for _ in range(16):
                try:
                    await stack.enter_async_context(http.ws_connect(server.websocket_url + "/api/v2/simple"))
                    statuses.append(101)
                except aiohttp.WSServerHandshakeError as refusal:
                    statuses.append(refusal.status)
    assert statuses == [101] + [401] * 15


MODEL = """
import os
from pathlib import Path
import streamer

class Fragile(streamer.Model):
    def load(self):
        if Path({broken!r}).exists():
            {how}
    def infer(self, batch):
        return ["" for _ in batch]
"""


def fragile(folder: Path, how: str) -> tuple[str, Path]:
    """A model that cannot be loaded while a file is there."""
    broken, file = folder / "broken", folder / "fragile.py"
    file.write_text(MODEL.format(broken=str(broken), how=how))
    return f"{file}:Fragile", broken


def test_a_model_that_cannot_be_loaded_is_one_line_and_exit_2(tmp_path: Path) -> None:
    model, broken = fragile(tmp_path, "raise RuntimeError('no weights')")
    broken.touch()
    code, said = refused(model, "--workers", "2", *QUICK, "--port", "0", "--set", "log.level=error")
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 2
    assert len(errors) == 1
    assert "no weights" in errors[0]


@pytest.mark.slow  # six starts, with the pauses between them; tests/supervision/test_supervisor.py has the quick one
async def test_a_model_that_kills_its_process_at_every_start_is_given_up(tmp_path: Path) -> None:
    model, broken = fragile(tmp_path, "os._exit(7)")
    with served(model, "--workers", "2", *QUICK, "--set", "model.executor=thread") as server:
        async with aiohttp.ClientSession() as http, AsyncExitStack() as stack:
            streams = Streams(http, server)
            await streams.open(stack)
            broken.touch()
            killed, spared = members(server)
            os.kill(killed, signal.SIGKILL)
            for heard in await asyncio.gather(*map(rest, streams.by_pid[spared])):
                assert heard[-1]["reason"] == "drained"
        code, said = server.ended()
        assert code == 1
        assert "ended with exit code 7, 6 times in a row" in said.splitlines()[-1]


def test_a_port_that_is_taken_is_one_line_and_exit_1() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refused("--workers", "2", "--port", str(port), *QUICK) == (
            1,
            f"error: cannot listen on 127.0.0.1:{port}: address already in use\n",
        )


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_a_number_of_workers_that_is_none_names_the_flag(number: str) -> None:
    code, said = refused("--workers", number)
    assert (code, said.startswith("error: --workers: server.processes: expected ")) == (2, True)


async def test_metrics_have_an_address_of_their_own_that_all_processes_share() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with workers("--set", f"server.metrics_address={address}") as server:
        async with aiohttp.ClientSession() as http:
            for _ in range(4):
                assert (await metrics(http, f"http://{address}"))["streamer_processes/serving"] == 2
            async with http.get(server.url + "/metrics") as response:
                assert response.status == 404


async def test_grpc_is_served_by_all_processes_on_one_port() -> None:
    grpc_aio = pytest.importorskip("grpc.aio")
    health_pb2 = pytest.importorskip("grpc_health.v1.health_pb2")
    health_pb2_grpc = pytest.importorskip("grpc_health.v1.health_pb2_grpc")
    with served("stub", "--workers", "2", *QUICK[:-2], "--grpc-port", "-1") as server:
        assert server.process.stderr is not None
        line = server.process.stderr.readline()
        port = int(line.strip().rpartition(":")[2])
        ports = [
            connection.laddr.port
            for process in members(server).values()
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert ports.count(port) == 2
        async with grpc_aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_model_that_cannot_load_shows_its_author_the_same_with_any_number_of_workers(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text(
        "import streamer\n\n\nclass Broken(streamer.Model):\n"
        "    def load(self):\n        self.decoder = {}['decoder']\n\n"
        "    def infer(self, batch):\n        return [{} for _ in batch]\n"
    )
    alone = refused(f"{file}:Broken", "--port", "0", "--grpc-port", "0")
    together = refused(f"{file}:Broken", "--port", "0", "--grpc-port", "0", "--workers", "2")
    assert together == alone
    assert together[0] == 2
    assert together[1].count(f'File "{file}", line 6, in load') == 1
    assert together[1].count("Traceback") == 1


def test_a_model_whose_file_cannot_be_imported_shows_its_author_the_same_with_any_number_of_workers(
    tmp_path: Path,
) -> None:
    file = tmp_path / "broken.py"
    file.write_text(
        "import streamer\n\n\ndef table():\n    return undefined_name\n\n\n"
        "@streamer.model\ndef broken(samples):\n    return 1\n\n\ntable()\n"
    )
    alone = refused(f"{file}:broken", "--port", "0", "--grpc-port", "0")
    together = refused(f"{file}:broken", "--port", "0", "--grpc-port", "0", "--workers", "2")
    assert together == alone
    code, said = together
    assert code == 2
    assert said.count("Traceback") == 1
    assert said.count("error:") == 1
    assert said.count(f'File "{file}", line 5, in table') == 1
    assert said.count("NameError: name 'undefined_name' is not defined") == 2, "in the traceback, and in the last line"
    assert "streamer/supervision" not in said
