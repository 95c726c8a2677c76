"""The bridge to a model in a Ray actor. It runs in a worker process in the place of the model, and is the Ray driver.

Ray's core ends its driver's process when the cluster's head is gone. So the driver is not the serving process, and each
loss of an actor, a node or the head is the end of a worker process, which the engine handles already.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NoReturn

import msgspec
import numpy as np

from streamer.errors import ErrorCode
from streamer.inference.faults import UNCAUGHT
from streamer.inference.model_runner import Host
from streamer.inference.ray_actor import Versions, versions
from streamer.inference.settings import RaySettings
from streamer.inference.worker_protocol import Fault, Op, WorkerCall, WorkerReply, decode_reply, encode

ACTOR_LOST = 3
"""Exit code of the process after the loss of its actor."""
NOT_CONNECTED = 5
"""Exit code of the process if Ray does not answer in time."""


def _ray() -> Any:
    import ray  # noqa: PLC0415 (half a second and 80 MB, in this process only)

    return ray


class RayHost:
    """Forwards calls to a model in an actor; a `worker.Host`. The process ends with its actor."""

    def __init__(self, make_host: Callable[[], Host], settings: RaySettings, ray: Callable[[], Any] = _ray) -> None:
        """Prepare the bridge. `make_host`: what makes the model runner; picklable. `ray`: imports the library."""
        self._make_host = pickle.dumps(make_host)
        self._settings = settings
        self._import = ray
        self._ray: Any = None
        self._actor: Any = None
        self._is_ending = False

    def run(self, call: WorkerCall) -> Iterator[WorkerReply]:
        """Yield the replies to one call; the last one is done."""
        if call.op is Op.LOAD and (problem := self._begin()) is not None:
            yield WorkerReply(fault=Fault(ErrorCode.MODEL_ERROR, UNCAUGHT, problem))
            return
        if self._actor is None:  # it was never loaded
            yield WorkerReply()
            return
        self._is_ending = call.op is Op.UNLOAD
        yield from self._forward(call)
        if call.op is Op.UNLOAD:
            self._ray.kill(self._actor)

    def _begin(self) -> str | None:
        """Connect, and wait until an actor is placed and ready to load; return the problem, if there is one."""
        overdue = threading.Timer(self._settings.connect_timeout_s, self._give_up)
        overdue.daemon = True
        overdue.start()
        try:
            self._ray = ray = self._import()
            ray.init(
                address=self._settings.address,
                namespace=self._settings.namespace,
                log_to_driver=False,
                logging_level="ERROR",
            )
        except Exception as error:  # noqa: BLE001 (the answer to the call, which the engine logs)
            return f"cannot connect to Ray at {self._settings.address}: {type(error).__name__}: {error}"
        finally:
            overdue.cancel()
        # ray.init takes SIGTERM for itself. It reaches the whole process group, but the server decides and drains.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self._actor = actor_class(ray.remote, ray.method).options(**self._options()).remote()
        threading.Thread(
            target=self._watch, args=(self._actor.watch.remote(),), name="watch-actor", daemon=True
        ).start()
        place: str = self._get(self._actor.begin.remote(self._make_host, versions()))
        if place.startswith("!"):
            return place[1:]
        _print(f"the model runs on {place}")
        return None

    def _options(self) -> dict[str, Any]:
        settings = self._settings
        options: dict[str, Any] = {
            "num_cpus": settings.num_cpus,
            "num_gpus": settings.num_gpus,
            "resources": dict(settings.resources),
        }
        if settings.labels:
            options["label_selector"] = dict(settings.labels)
        if variables := matching_variables(os.environ, settings.pass_environment):
            options["runtime_env"] = {"env_vars": variables}
        return options

    def _forward(self, call: WorkerCall) -> Iterator[WorkerReply]:
        bare = [msgspec.structs.replace(item, samples=memoryview(b"")) for item in call.items]
        head = encode(msgspec.structs.replace(call, items=bare))
        # Arrays are read in place on the other side; bytes would be copied.
        samples = [np.frombuffer(item.samples, np.float32) for item in call.items]
        reference = self._actor.run.remote(head, samples)
        while True:
            reply = decode_reply(self._get(reference))
            yield reply
            if reply.done:
                return
            reference = self._actor.more.remote()

    def _get(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._end(error)

    def _watch(self, reference: Any) -> None:
        """End the process with its actor, also between two calls."""
        try:
            self._ray.get(reference)
        except Exception as error:  # noqa: BLE001 (whatever it is, the actor is gone)
            if not self._is_ending:
                self._end(error)

    def _end(self, error: Exception) -> NoReturn:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        _print(f"the actor is lost: {type(error).__name__}: {(lines or ['no detail'])[0][:300]}")
        os._exit(ACTOR_LOST)

    def _give_up(self) -> None:
        _print(f"no connection to Ray at {self._settings.address} within {self._settings.connect_timeout_s:g} s")
        os._exit(NOT_CONNECTED)


def actor_class(remote: Callable[..., Any], method: Callable[..., Any]) -> Any:
    """Return the class of the actor. `remote`, `method`: Ray's own.

    Ray pickles it by value, so it is small, refers to nothing outside, and imports what it needs where it runs.
    """

    class StreamerModel:
        def __init__(self) -> None:
            self._host: Any = None

        def begin(self, make_host: bytes, versions: Versions) -> str:
            """Return where the actor runs, or the problem after `!`."""
            try:
                from streamer.inference import ray_actor  # noqa: PLC0415

                found = ray_actor.versions()
                if found != tuple(versions):
                    words = "Streamer %s, Python %s, layout %d"
                    return f"!the actor has {words % found}; the server has {words % tuple(versions)}: use one image"
                self._host = ray_actor.ActorHost(make_host)
                return ray_actor.place()
            except Exception as error:  # noqa: BLE001 (the answer; the server logs it)
                return f"!the actor cannot build the model's host: {type(error).__name__}: {error}"

        def run(self, head: bytes, samples: Sequence[Any]) -> Any:
            return self._host.run(head, samples)

        def more(self) -> Any:
            return self._host.more()

        @method(concurrency_group="watch")  # type: ignore[untyped-decorator]
        def watch(self) -> None:
            """Wait forever: the caller's reference fails when the actor is no more."""
            import threading  # noqa: PLC0415

            threading.Event().wait()

    # Restarts and second tries are the engine's; two of each would answer twice.
    decorate = remote(max_restarts=0, max_task_retries=0, concurrency_groups={"watch": 1})
    return decorate(StreamerModel)


def matching_variables(environ: Mapping[str, str], patterns: tuple[str, ...]) -> dict[str, str]:
    """Return the variables whose names match one of the patterns, such as `OTEL_*`."""
    return {name: value for name, value in environ.items() if any(fnmatchcase(name, each) for each in patterns)}


def _print(line: str) -> None:
    """Write a line, which the server logs."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
