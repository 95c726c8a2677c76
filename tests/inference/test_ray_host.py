"""The bridge to a Ray actor, with a Ray of five functions: the order of things, and what each failure becomes."""

from __future__ import annotations

import signal
import threading

import numpy as np
import pytest

from streamer.errors import ConfigError
from streamer.inference import ray_host, worker_pool
from streamer.inference.engine import Engine
from streamer.inference.ray_host import RayHost, matching_variables
from streamer.inference.settings import RaySettings
from streamer.inference.worker_protocol import Answer, InferenceItem, Op, WorkerCall, WorkerReply
from streamer.models.loading import ModelSpec
from tests.inference.harness import job


class RayError(Exception):
    pass


class Died(BaseException):
    """The process has ended, in place of os._exit."""


class Exceptions:
    RayError = RayError


class Reference:
    def __init__(self, get):
        self.get = get


class FakeRay:
    """Runs the actor in this process, through what is really sent."""

    exceptions = Exceptions

    def __init__(self):
        self.said = []
        self.options = {}
        self.fails = {}
        self.sentinel = threading.Event()

    def init(self, **options):
        self.said.append(("init", options["address"]))
        if "init" in self.fails:
            raise self.fails["init"]
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray does

    def method(self, **options):
        return lambda function: function

    def remote(self, **options):
        assert (options["max_restarts"], options["max_task_retries"]) == (0, 0)
        return lambda found: FakeClass(self, found)

    def get(self, reference):
        return reference.get()

    def kill(self, actor):
        self.said.append(("kill",))
        self.sentinel.set()


class FakeClass:
    def __init__(self, ray, found):
        self._ray, self._class = ray, found

    def options(self, **options):
        self._ray.options = options
        return self

    def remote(self):
        return FakeActor(self._ray, self._class())


class FakeActor:
    def __init__(self, ray, inner):
        self._ray, self._inner = ray, inner

    def __getattr__(self, name):
        ray, inner = self._ray, self._inner

        class Method:
            @staticmethod
            def remote(*args):
                ray.said.append((name,))

                def get():
                    if name == "watch":
                        ray.sentinel.wait()
                        raise RayError("killed")
                    if name in ray.fails:
                        raise ray.fails[name]
                    return getattr(inner, name)(*args)

                return Reference(get)

        return Method


class Words:
    """A model runner that answers each item with its length, word by word."""

    def run(self, call):
        if call.op is Op.INFER:
            yield WorkerReply([Answer(0, b"1", True)], done=False)
        yield WorkerReply([Answer(n, str(len(item.samples)).encode()) for n, item in enumerate(call.items)])


@pytest.fixture
def ray(monkeypatch):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def end(code):
        if threading.current_thread() is not threading.main_thread():
            return
        raise Died(code)

    monkeypatch.setattr(ray_host.os, "_exit", end)
    fake = FakeRay()
    yield fake
    fake.sentinel.set()
    for thread in threading.enumerate():
        if thread.name == "watch-actor":
            thread.join()
    signal.signal(signal.SIGTERM, before[0])
    signal.signal(signal.SIGINT, before[1])


def host_on(ray, **settings):
    return RayHost(Words, RaySettings(address="head:6379", **settings), lambda: ray)


def loaded(ray, **settings):
    host = host_on(ray, **settings)
    assert list(host.run(WorkerCall(Op.LOAD)))[-1].fault is None
    ray.said.clear()
    return host


def test_loading_connects_then_watches_then_asks_for_versions_then_loads(ray):
    host = host_on(ray, num_gpus=0.5, resources={"gpu_node": 1}, labels={"zone": "a"})
    [reply] = host.run(WorkerCall(Op.LOAD))
    assert reply.done
    assert reply.rss > 0  # of the actor
    assert ray.said == [("init", "head:6379"), ("watch",), ("begin",), ("run",)]
    expected = {"num_cpus": 1.0, "num_gpus": 0.5, "resources": {"gpu_node": 1}, "label_selector": {"zone": "a"}}
    assert ray.options.items() >= expected.items()


def test_signals_stay_ignored_though_ray_takes_them(ray):
    loaded(ray)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_replies_are_fetched_one_by_one_and_samples_arrive_as_they_left(ray):
    host = loaded(ray)
    items = [InferenceItem.of(job(0, n=160)), InferenceItem.of(job(1, n=0))]
    partial, last = host.run(WorkerCall(Op.INFER, items))
    assert (partial.done, last.done) == (False, True)
    assert [answer.value for answer in last.answers] == [str(160 * np.float32().nbytes).encode(), b"0"]
    assert ray.said == [("run",), ("more",)]


def test_unloading_ends_the_actor_and_that_is_no_loss(ray):
    host = loaded(ray)
    assert list(host.run(WorkerCall(Op.UNLOAD)))[-1].done
    assert ray.said == [("run",), ("kill",)]


def test_a_cluster_that_refuses_is_named_in_the_reply(ray):
    ray.fails["init"] = ConnectionError("no such host")
    [reply] = host_on(ray).run(WorkerCall(Op.LOAD))
    assert reply.fault is not None
    assert reply.fault.detail == "cannot connect to Ray at head:6379: ConnectionError: no such host"
    assert list(host_on(ray).run(WorkerCall(Op.UNLOAD))) == [WorkerReply()]


def test_another_version_is_named_with_both(ray, monkeypatch):
    monkeypatch.setattr(ray_host, "versions", lambda: ("0.0.9", "3.10", 7))
    [reply] = host_on(ray).run(WorkerCall(Op.LOAD))
    assert reply.fault is not None
    assert "the server has Streamer 0.0.9, Python 3.10, layout 7: use one image" in reply.fault.detail


def test_a_runner_that_cannot_be_built_there_is_named(ray):
    host = host_on(ray)
    host._make_host = b"no pickle"
    [reply] = host.run(WorkerCall(Op.LOAD))
    assert reply.fault is not None
    assert "the actor cannot build the model's host: UnpicklingError" in reply.fault.detail


def test_an_actor_that_is_lost_in_a_call_ends_the_process(ray, capfd):
    host = loaded(ray)
    ray.fails["run"] = RayError("The actor died.\nIts pid was 7.")
    with pytest.raises(Died) as died:
        list(host.run(WorkerCall(Op.HEALTH_CHECK)))
    assert died.value.args == (ray_host.ACTOR_LOST,)
    assert "the actor is lost: RayError: The actor died." in capfd.readouterr().err


def test_only_listed_variables_are_passed():
    environ = {"OTEL_SERVICE_NAME": "a", "OMP_NUM_THREADS": "2", "STREAMER_ACCESS__KEYS": "secret", "XOTEL_": "x"}
    assert matching_variables(environ, ("OTEL_*", "OMP_NUM_THREADS")) == {
        "OTEL_SERVICE_NAME": "a",
        "OMP_NUM_THREADS": "2",
    }


async def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setattr(worker_pool.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"executor = .ray. needs the extra.*pip install 'streamer-audio\[ray\]'"):
        Engine(ModelSpec("stub", {"executor": "ray"}))


@pytest.mark.parametrize("wrong", [{"num_gpus": -1.0}, {"num_cpus": float("nan")}, {"resources": {"gpu": True}}])
def test_amounts_are_numbers_of_at_least_0(wrong):
    with pytest.raises(ConfigError, match="expected a number of at least 0"):
        RaySettings(**wrong)
