"""Models in real Ray actors on real nodes, which are killed, frozen and cut off. Minutes: make test-ray."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator

import psutil
import pytest

from streamer.errors import ErrorCode, ModelLoadError
from streamer.inference.engine import Engine
from streamer.inference.observer import LossCause
from streamer.inference.settings import EngineSettings, RaySettings
from streamer.models.loading import ModelSpec
from streamer.session.actions import JobFailed, JobKind, Output, Shed
from tests.inference import harness
from tests.inference.harness import Outcomes, Recorder
from tests.inference.ray_cluster import Cluster, Network, Node, has_namespaces
from tests.inference.test_process import doing, pid_of

HAS_RAY = importlib.util.find_spec("ray") is not None
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not HAS_RAY, reason='pip install "streamer-audio[ray]"'),
]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "PATIENCE_S", 120.0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head and one node."""
    cluster = Cluster()
    try:
        cluster.start_head()
        cluster.start_node()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A head for one test that breaks it."""
    cluster = Cluster()
    try:
        cluster.start_head()
        yield cluster
    finally:
        cluster.stop()


@contextlib.asynccontextmanager
async def running(cluster, spec, settings=None, *, observer=None, stop_s=5.0, **ray):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        options = {"address": cluster.address, "num_cpus": 0.0, "num_gpus": 0.0, "resources": {"gpu_node": 1.0}, **ray}
        engine = Engine(spec, settings or EngineSettings(), observer=observer, ray=RaySettings(**options))
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop(stop_s)


def villain(name="Villain", **parameters):
    return ModelSpec(f"tests.inference.villains:{name}", {"executor": "ray", "timeout_floor_s": 60.0, **parameters})


async def gone(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        await asyncio.to_thread(psutil.Process(pid).wait, harness.PATIENCE_S)


async def test_the_model_is_an_actor_that_streams_partials_and_no_ray_is_in_this_process(cluster, caplog):
    caplog.set_level("INFO", "streamer.inference")
    got, record = Outcomes(), Recorder()
    async with running(cluster, villain(), observer=record) as engine:
        assert "ray" not in sys.modules
        pid = await pid_of(engine, got)
        assert pid not in (os.getpid(), engine._pool.slots[0].worker.pid)
        got.submit(engine, doing(1, act="words", words=["a", "a b", "a b c"]))
        await got.wait(1)
        got.submit(engine, doing(2, act="exit"))
        assert await got.wait(2) == JobFailed(ErrorCode.MODEL_ERROR, "Internal server error")
    assert got.of["s", 1] == [Output.of("a", True), Output.of("a b", True), Output.of("a b c")]
    assert not record.lost
    assert f"the model runs on {os.uname().nodename}, process {pid}" in caplog.text
    await gone(pid)


async def test_the_death_of_an_actor_costs_only_the_job_that_kills_it(cluster):
    got, record = Outcomes(), Recorder()
    async with running(cluster, villain(max_batch_size=3), observer=record) as engine:
        got.submit(engine, doing(0, "good"))
        got.submit(engine, doing(0, "evil", "vanish"))
        got.submit(engine, doing(0, "interim", kind=JobKind.INTERIM))
        good, evil, interim = await got.wait_all([("good", 0), ("evil", 0), ("interim", 0)])
        assert isinstance(good, Output)
        assert evil == JobFailed(ErrorCode.MODEL_CRASHED, "the model crashed on this segment")
        assert interim == Shed()
        assert record.lost == [(0, LossCause.CRASHED)] * 2
        await record.until(lambda: len(record.started) == 3)


async def test_a_call_that_hangs_is_ended_with_its_actor_and_the_next_job_runs(cluster):
    got, record = Outcomes(), Recorder()
    spec = villain(timeout_floor_s=2.0, timeout_factor=0.0)
    async with running(cluster, spec, observer=record) as engine:
        pid = await pid_of(engine, got)
        got.submit(engine, doing(0, act="hang"))
        got.submit(engine, doing(0, "next"))
        assert await got.wait() == JobFailed(ErrorCode.MODEL_TIMEOUT, "the model took too long for this segment")
        assert isinstance(await got.wait(0, "next"), Output)
        assert record.lost == [(0, LossCause.HUNG)]
        await gone(pid)


async def test_an_actor_killed_at_rest_is_replaced_and_the_reason_is_named(cluster):
    got, record = Outcomes(), Recorder()
    async with running(cluster, villain(), observer=record) as engine:
        os.kill(await pid_of(engine, got), signal.SIGKILL)
        await record.until(lambda: record.lost)
        assert not engine.readiness.ready
        assert "the actor is lost: ActorDiedError" in engine.readiness.reason
        await record.until(lambda: len(record.started) == 2)
        assert engine.readiness.ready


async def test_an_actor_ends_with_its_bridge(cluster):
    got, record = Outcomes(), Recorder()
    async with running(cluster, villain(), observer=record) as engine:
        pid = await pid_of(engine, got)
        os.kill(engine._pool.slots[0].worker.pid, signal.SIGKILL)
        await gone(pid)
        await record.until(lambda: len(record.started) == 2)


async def test_signals_to_the_process_group_leave_the_bridge_to_the_drain(cluster, tmp_path):
    got, record = Outcomes(), Recorder()
    flag = tmp_path / "flag"
    async with running(cluster, villain(), observer=record) as engine:
        got.submit(engine, doing(0, act="wait_for", flag=str(flag)))
        await record.until(lambda: record.batches)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(engine._pool.slots[0].worker.pid, number)
        stopping = asyncio.create_task(engine.stop(60.0))
        await asyncio.sleep(0)
        flag.touch()
        assert isinstance(await got.wait(), Output)
        await stopping
    assert not record.lost


async def test_an_actor_past_its_memory_limit_is_replaced(cluster):
    got, record = Outcomes(), Recorder()
    async with running(cluster, villain(memory_limit_mb=1), observer=record) as engine:
        assert await pid_of(engine, got) != await pid_of(engine, got, number=1)
        assert {cause for _, cause in record.lost} == {LossCause.MEMORY}
        assert not record.failed


async def test_states_stay_on_their_actor_and_end_with_it(cluster):
    got = Outcomes()
    async with running(cluster, villain("Counter", workers=2)) as engine:
        for number in range(3):
            for session in "abcd":
                got.submit(engine, doing(number, session, start=number * 160))
        await got.wait_all([(session, 2) for session in "abcd"])
        pids = {session: {got.of[session, number][0].decode()["pid"] for number in range(3)} for session in "abcd"}
        assert all(len(seen) == 1 for seen in pids.values())
        assert len(set.union(*pids.values())) == 2
        got.submit(engine, doing(3, "a", "die", start=480))
        failed = await got.wait(3, "a")
        assert failed.code is ErrorCode.MODEL_CRASHED
        assert "the model's state for this stream was lost, processing restarts at 0.040 s" in failed.message
        for session in "abcd":
            got.submit(engine, doing(4, session, start=640))
        after = dict(zip("abcd", await got.wait_all([(session, 4) for session in "abcd"]), strict=True))
    for session, outcome in after.items():
        shared = pids[session] == pids["a"]
        assert outcome.decode()["pieces"] == (1 if shared else 4)
        assert outcome.state_lost == (shared and session != "a")


async def test_stopping_kills_an_actor_that_does_not_end(cluster):
    got, record = Outcomes(), Recorder()
    async with running(cluster, villain(), observer=record, stop_s=0.05) as engine:
        pid = await pid_of(engine, got)
        got.submit(engine, doing(0, act="hang"))
        await record.until(lambda: len(record.batches) == 2)
    assert got.last(0).code is ErrorCode.DRAINING
    await gone(pid)


async def test_no_place_for_an_actor_is_a_load_that_takes_too_long(cluster):
    with pytest.raises(ModelLoadError, match="loading the model took more than 4 s"):
        async with running(cluster, villain(), EngineSettings(load_timeout_s=4.0), resources={"no_such_node": 1.0}):
            pass


async def test_a_model_that_no_node_has_is_named(cluster, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("from tests.inference.villains import Villain\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = ModelSpec("only_here:Villain", {"executor": "ray"})
    with pytest.raises(ModelLoadError, match="no module named 'only_here'"):
        async with running(cluster, spec):
            pass


async def test_no_cluster_is_named(cluster):
    with pytest.raises(ModelLoadError, match=r"no connection to Ray at 127.0.0.1:9 within 2 s|cannot connect to Ray"):
        async with running(cluster, villain(), address="127.0.0.1:9", connect_timeout_s=2.0):
            pass


async def test_a_wrong_token_is_refused(cluster, tmp_path):
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    stranger = Cluster.__new__(Cluster)
    stranger.host, stranger.port = cluster.host, cluster.port
    stranger.environment = {**cluster.environment, "RAY_AUTH_TOKEN_PATH": str(wrong)}
    with pytest.raises(ModelLoadError, match=r"worker 0 exited|cannot connect to Ray"):
        async with running(stranger, villain()):
            pass


# Nodes ------------------------------------------------------------------------------------------------------------


class Stream:
    """Jobs, one after the other on each of several sessions, until it is stopped. Each must have one last outcome."""

    def __init__(self, engine, sessions=4):
        self.engine = engine
        self.got = Outcomes()
        self.submitted = 0
        self._on = True
        self._tasks = [asyncio.create_task(self._go(f"s{number}")) for number in range(sessions)]

    async def _go(self, session):
        number = 0
        while self._on:
            self.got.submit(self.engine, doing(number, session))
            self.submitted += 1
            await self.got.wait(number, session)
            number += 1

    async def stop(self):
        self._on = False
        await asyncio.gather(*self._tasks)

    def account(self):
        """Outcomes by kind. Raises AssertionError if a job has none, or more than one."""
        assert len(self.got.of) == self.submitted
        kinds = {}
        for outcomes in self.got.of.values():
            [outcome] = outcomes
            name = type(outcome).__name__
            kinds[name] = kinds.get(name, 0) + 1
        return kinds


def node_of(cluster: Cluster, pid: int) -> Node:
    """The node whose raylet started the process."""
    ancestors = {each.pid for each in psutil.Process(pid).parents()}
    [node] = [each for each in cluster.nodes if ancestors & {one.pid for one in each.family}]
    return node


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_jobs_of_a_lost_node_are_answered_by_another(own_cluster, how):
    own_cluster.start_node()
    got, record = Outcomes(), Recorder()
    async with running(own_cluster, villain(), EngineSettings(load_timeout_s=120.0), observer=record) as engine:
        lost = node_of(own_cluster, await pid_of(engine, got))
        own_cluster.start_node()
        stream = Stream(engine)
        await harness.until(lambda: stream.submitted > 500)
        if how == "killed":
            lost.kill()
        else:
            lost.signal(signal.SIGSTOP)
        await record.until(lambda: record.lost)
        before = stream.submitted
        await harness.until(lambda: stream.submitted > before + 500)
        await stream.stop()
    assert stream.account() == {"Output": stream.submitted}
    assert {cause for _, cause in record.lost} == {LossCause.CRASHED}


@pytest.mark.skipif(not has_namespaces(), reason="network namespaces need root and iproute2")
async def test_jobs_behind_a_cut_cable_are_answered_once_by_the_other_node():
    got, record = Outcomes(), Recorder()
    with Network() as network:
        cluster = Cluster(f"{network.PREFIX}.1")
        try:
            cluster.start_head()
            network.start_node(cluster, 11)
            settings = EngineSettings(load_timeout_s=120.0)
            async with running(cluster, villain(), settings, observer=record) as engine:
                pid = await pid_of(engine, got)
                network.start_node(cluster, 12)
                stream = Stream(engine)
                await harness.until(lambda: stream.submitted > 500)
                network.cable(11, "down")
                await record.until(lambda: record.lost)
                before = stream.submitted
                await harness.until(lambda: stream.submitted > before + 500)
                network.cable(11, "up")
                await gone(pid)  # cut off, it lives until its node gives up
                before = stream.submitted
                await harness.until(lambda: stream.submitted > before + 500)
                await stream.stop()
        finally:
            cluster.stop()
    assert stream.account() == {"Output": stream.submitted}
    assert {cause for _, cause in record.lost} == {LossCause.CRASHED}


async def test_a_head_that_is_away_for_long_ends_no_process_but_the_bridge(own_cluster):
    """Ray ends the driver's process after a minute. A new, empty head is enough to go on."""
    own_cluster.start_node()
    record = Recorder()
    settings = EngineSettings(load_timeout_s=30.0, max_restart_backoff_s=2.0)
    async with running(own_cluster, villain(), settings, observer=record) as engine:
        stream = Stream(engine)
        await harness.until(lambda: stream.submitted > 100)
        head = own_cluster.head
        [gcs] = head.find("gcs_server")
        gcs.kill()
        await record.until(lambda: record.lost)
        assert not engine.readiness.ready
        for node in own_cluster.nodes:
            await asyncio.to_thread(node.kill)
        await asyncio.to_thread(own_cluster.start_head)
        own_cluster.start_node()
        await record.until(lambda: len(record.started) == 2)
        before = stream.submitted
        await harness.until(lambda: stream.submitted > before + 100)
        await stream.stop()
    assert stream.account() == {"Output": stream.submitted}
