"""Several server processes on the same ports, from their settings to their end."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from streamer.clock import PauseAwareClock
from streamer.config import LoadedSettings, Settings
from streamer.config.addresses import host_and_port
from streamer.errors import ListenFailed
from streamer.supervision import descriptors
from streamer.supervision.ipc import Ready, WorkerSettings
from streamer.supervision.ports import SharedPorts
from streamer.supervision.shared_replay_store import new_table
from streamer.supervision.shutdown import Shutdown
from streamer.supervision.supervisor import ProcessPlan, Supervisor, SupervisorOutcome
from streamer.telemetry.metrics_merge import MetricsAggregator

COMMAND = (sys.executable, "-m", "streamer.supervision.worker")
TEARDOWN_S = 20.0
"""Time in seconds that a process may need beyond its drain to stop all of its parts."""

log = logging.getLogger(__name__)


async def run_multi_process(loaded: LoadedSettings, announce: Callable[[Ready], None]) -> SupervisorOutcome:
    """Run the whole server until a signal, or until the supervisor gives up.

    `announce` is called once all processes serve. Raises ConfigError and ListenFailed.
    """
    with SharedPorts() as ports, Shutdown() as ending:
        settings = _with_ports(loaded, ports)
        descriptors.ensure_limit(settings)  # the processes inherit the limit
        origins = {".".join(key): origin for key, origin in loaded.origins.items()}
        plan = ProcessPlan(
            COMMAND,
            WorkerSettings(settings.model_dump_json().encode(), origins, new_table()),
            settings.server.processes,
            settings.drain.hard_s + TEARDOWN_S,
            TEARDOWN_S,
        )
        clock = PauseAwareClock()
        supervisor = Supervisor(plan, MetricsAggregator(), announce, clock)
        clock.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(_forward_shutdown(supervisor, ending))
                outcome = await supervisor.run()
                telling.cancel()
        finally:
            clock.stop()
    return outcome


async def _forward_shutdown(supervisor: Supervisor, ending: Shutdown) -> None:
    await ending.drain_requested.wait()
    supervisor.drain(lag=ending.grace_for_load_balancer)
    await ending.immediate.wait()
    log.warning("second signal received: all sessions are cut off now")
    supervisor.end()


def _with_ports(loaded: LoadedSettings, ports: SharedPorts) -> Settings:
    """Return the settings with every port reserved and resolved."""
    settings = loaded.settings
    server, grpc = settings.server, settings.grpc
    changes: dict[str, Any] = {}
    if grpc.port:
        try:
            changes["grpc"] = replace(grpc, port=ports.reserve(server.host, max(0, grpc.port)))
        except ListenFailed as error:
            if loaded.origin("grpc.port") != "default":
                raise
            log.warning("gRPC is disabled: %s", error.message)
            changes["grpc"] = replace(grpc, port=0)
    address = server.metrics_address
    if address:
        host, port = host_and_port(address, "server.metrics_address")
        port = ports.reserve(host, port)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    dialects = settings.dialects
    if {"all", "wyoming"} & set(dialects.serve):
        dialects = replace(dialects, wyoming_port=ports.reserve(server.host, max(0, dialects.wyoming_port)))
    if {"all", "calls"} & set(dialects.serve) and (port := dialects.calls_audiosocket_port):
        dialects = replace(dialects, calls_audiosocket_port=ports.reserve(server.host, max(0, port)))
    changes["dialects"] = dialects
    changes["server"] = replace(server, port=ports.reserve(server.host, server.port), metrics_address=address)
    return settings.model_copy(update=changes)
