"""Helpers for a user's own tests: fakes, signals, in-memory transport, manual clock."""

from streamer.testing.clock import ManualClock
from streamer.testing.fakes import ScriptedEngine, ScriptedScoring
from streamer.testing.faults import HEALTHY, FaultProxy, Toxics, fault_proxy
from streamer.testing.serving import Served, serve
from streamer.testing.signals import noise, s16le, silence, speech, tone
from streamer.transports.memory import CloseInfo, MemoryClient, MemoryTransport, memory_pair

__all__ = [
    "HEALTHY",
    "CloseInfo",
    "FaultProxy",
    "ManualClock",
    "MemoryClient",
    "MemoryTransport",
    "ScriptedEngine",
    "ScriptedScoring",
    "Served",
    "Toxics",
    "fault_proxy",
    "memory_pair",
    "noise",
    "s16le",
    "serve",
    "silence",
    "speech",
    "tone",
]
