"""What a user's own tests import: fakes, signals, in-memory pair, manual clock."""

from streamer.testing.clock import ManualClock
from streamer.testing.fakes import ScriptedEngine, ScriptedScoring
from streamer.testing.signals import noise, s16le, silence, speech, tone
from streamer.transports.memory import Goodbye, MemoryClient, MemoryTransport, memory_pair

__all__ = [
    "Goodbye",
    "ManualClock",
    "MemoryClient",
    "MemoryTransport",
    "ScriptedEngine",
    "ScriptedScoring",
    "memory_pair",
    "noise",
    "s16le",
    "silence",
    "speech",
    "tone",
]
