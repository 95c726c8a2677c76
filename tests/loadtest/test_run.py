"""Real runs: processes that speak, a server process that answers, files that say what happened."""

import asyncio
import os
import signal
import subprocess
import sys

import msgspec
import psutil
import pytest
from typer.testing import CliRunner

from streamer.audio.files import read_audio
from streamer.cli import app
from streamer.cli.server_subprocess import run_server
from streamer.loadtest.diagnostics import diagnose
from streamer.loadtest.html_report import render_page
from streamer.loadtest.results import CapacityResult, LoadReport, MachineInfo, WorkloadInfo
from streamer.loadtest.run import LoadPlan, NoStreamOpened, Target, run_step
from streamer.loadtest.tape import make_tape
from streamer.loadtest.workload import Workload
from streamer.samples import sample
from streamer.session.events import Mode
from tests.cli.serving import environment, served
from tests.client.scripted import close_without_a_code, until_stop
from tests.client.scripted import serving as scripted

BRIEF = Workload(ramp_s=0.2, warmup_s=0.3, seconds=3.0, interim_results=True)


def plan(workload=BRIEF, processes=1):
    return LoadPlan(workload, make_tape(workload, [read_audio(str(sample()))]), processes=processes)


@pytest.fixture(scope="module")
def server():
    with served("stub", "--grpc-port", "0") as running:
        yield running


def step(server, path, plan, streams=4, say=lambda news: None):
    target = Target(server.websocket_url + path, server.process.pid, is_stub=True)
    return asyncio.run(run_step(plan, target, streams, say))


def test_utterances_are_timed_and_every_frame_is_accounted_for(server):
    heard = []
    found = step(server, "/api/v2/segmented", plan(processes=2), say=heard.append)
    assert found.is_clean
    assert (found.opened, found.errors, found.endings, found.early) == (4, {}, {}, 0)
    assert found.frames.sent == sum(round(row.sent_s * 16_000) for row in found.each)
    assert found.final.count
    assert found.interim.count
    assert found.first.count == 4
    # What a speaker waits is what the server adds and the silence that ends speech: 19 windows of 32 ms.
    assert found.final_whole.p50_ms > found.final.p50_ms + 500
    assert found.load.processes == 2
    assert found.server is not None
    assert found.server.processes >= 1
    assert 4 < found.server.stream_s <= 12.5
    assert found.server.cpu_s > 0
    assert found.timeline[0].second == 0
    assert heard[-1].streams == 4


@pytest.mark.parametrize("path", ["/api/v1/simple", "/api/v2/simple", "/api/v1/segmented"])
def test_every_dialect_and_mode_comes_out_clean(server, path):
    found = step(server, path, plan(Workload(ramp_s=0, warmup_s=0.2, seconds=1.5, jitter_ms=30)))
    assert found.is_clean
    assert found.lag.count or "segmented" in path


async def test_grpc_is_measured_by_the_same_words():
    async with run_server("stub", grpc=True) as child:
        target = Target(child.grpc, child.pid, is_stub=True)
        found = await run_step(plan(), target, 2, lambda news: None)
    assert found.is_clean
    assert found.final.count
    assert found.interim.count


@pytest.mark.parametrize("path", ["/api/v2/simple", "grpc"])
async def test_audio_out_is_timed_frame_by_frame(path):
    work = Workload(ramp_s=0.0, warmup_s=0.2, seconds=1.5, audio_out=True)
    async with run_server("passthrough", grpc=path == "grpc") as child:
        address = child.grpc if path == "grpc" else child.address.replace("http", "ws", 1) + path
        target = Target(address, child.pid, mode=Mode.SIMPLE)
        found = await run_step(plan(work), target, 2, lambda news: None)
    assert found.is_clean
    assert found.audio.count
    assert found.audio.p50_ms > 0
    assert found.audio_out_s == pytest.approx(found.frames.sent / 16_000)


async def test_a_close_without_a_code_after_the_stop_is_a_normal_end():
    """Some servers of v1 end so."""

    async def script(socket, request):
        await until_stop(socket)
        close_without_a_code(request)

    async with scripted(script) as address:
        found = await run_step(plan(), Target(address + "/api/v1/segmented"), 2, lambda news: None)
    assert found.opened == 2
    assert found.endings == {}


def test_a_generator_that_was_late_is_reported(server):
    """Stopped for a while in mid-run; its messages left late, and everybody is told."""
    stopped = []

    def interrupt(news):
        if news.seconds > 1 and not stopped:
            stopped.extend(process for process in psutil.Process().children() if "spawn_main" in str(process.cmdline()))
            for process in stopped:
                process.send_signal(signal.SIGSTOP)
            asyncio.get_running_loop().call_later(0.6, resume)

    def resume():
        for process in stopped:
            process.send_signal(signal.SIGCONT)

    found = step(server, "/api/v2/segmented", plan(), say=interrupt)
    assert stopped
    assert found.load.late.max_ms > 400
    assert found.load.was_late
    assert found.is_clean  # late, but sent: an open loop leaves nothing out


def test_a_server_that_is_not_there_is_an_error():
    with pytest.raises(NoStreamOpened, match=r"ws://127\.0\.0\.1:1/api/v2/simple: "):
        asyncio.run(run_step(plan(), Target("ws://127.0.0.1:1/api/v2/simple"), 2, lambda news: None))


def test_an_address_without_such_a_path_is_an_error(server):
    with pytest.raises(NoStreamOpened, match=r"the server answered HTTP/1\.1 404"):
        asyncio.run(run_step(plan(), Target(server.websocket_url + "/nothing/v2/simple"), 2, lambda news: None))


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "streamer", "bench", *arguments],
        env=environment(), capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip


def test_the_command_starts_a_server_and_writes_figures_and_a_page(tmp_path):
    out = tmp_path / "run"
    done = run(
        "--serve", "stub", "--streams", "3", "--seconds", "1.5", "--warmup", "0", "--ramp", "0", "--out", str(out)
    )
    assert done.returncode == 0, done.stderr
    assert "written: " in done.stdout
    assert sorted(os.listdir(tmp_path)) == ["run.html", "run.json"]
    report = msgspec.json.decode((tmp_path / "run.json").read_bytes(), type=LoadReport)
    assert report.server == "/api/v2/segmented of streamer serve stub"
    [step] = report.steps
    assert step.is_clean
    said = " ".join(done.stdout.split())
    for remark in diagnose(report):
        assert remark in said


def test_the_page_needs_nothing_else_and_leaves_nothing_out(server):
    one = step(server, "/api/v2/simple", plan(Workload(ramp_s=0, warmup_s=0, seconds=1)), streams=2)
    late = msgspec.structs.replace(one, streams=9, load=msgspec.structs.replace(one.load, late=one.first))
    report = LoadReport(
        version="1", started_at="2020-01-01T00:00:00", server="ws://<here>", command="streamer bench",
        machine=MachineInfo(2, "cpu", "system", "3"),
        workload=WorkloadInfo("pcm_s16le", 16_000, 20, 640, 0.5, 0.49, 0, 0, 0, 0, 1, False, ("a.wav",), 600),
        steps=[one, late],
        capacity=CapacityResult("p99_lag_ms=10", 2, 9, "p99 lag 12 ms"),
    )  # fmt: skip
    written = render_page(report)
    assert written.count("src='data:image/png;base64,") == 4
    assert "src='http" not in written
    assert "ws://&lt;here&gt;" in written
    assert "2 streams within a result lag of 10.0 ms at 99 %" in written
    assert "streams were refused: 7 () at 9 streams" in written
    assert "the load generator was late" in written
    assert "9 streams do not: p99 lag 12 ms" in written
    assert "<tr><td>2</td>" in written
    assert "<tr class=missed><td>9</td>" in written
    assert "lag<br>99 %<br>ms" in written
    assert "interim<br>" not in written  # nobody asked for them


def test_the_search_ends_with_a_number(server, tmp_path):
    done = run(
        "-a", f"{server.websocket_url}/api/v2/simple", "--find-capacity", "--slo", "max_first_ms=1", "--streams", "1",
        "--seconds", "1", "--warmup", "0", "--ramp", "0", "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "0 streams hold max_first_ms=1" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "error: server: expected one of --address URL and --serve MODEL"),
        (("-a", "ws://localhost/elsewhere"), "error: url: expected ws://HOST:PORT/api/v1|v2/simple|segmented"),
        (("--serve", "stub", "--streams", "many"), "error: --streams: expected numbers from 1"),
        (("--serve", "stub", "--encoding", "mp3"), "error: --encoding: expected one of pcm_u8"),
        (("--serve", "stub", "--recording", "none.wav"), "error: none.wav: No such file"),
        (("-a", "ws://localhost/api/v1/simple", "--encoding", "mulaw"), "error: format.encoding: expected pcm_s16le"),
    ],
)
def test_options_that_cannot_be_are_named(arguments, said):
    done = CliRunner().invoke(app, ["bench", *arguments])
    assert done.exit_code == 2
    assert done.stderr.startswith(said)
