"""The numbers that the plan starts from, each with its source, and what follows from them by arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Inputs. Measured ones are from docs/benchmarks; the others are assumptions to be replaced by your own."""

    streams: int = 1_000_000
    """Streams at the peak of the day."""
    cpu_ms: float = 1.3
    """Measured: CPU of the server for a second of one stream, 16 kHz, messages of 20 ms, compiled."""
    most_streams: int = 956
    """Measured: streams of one process with 99 % of the finals within 250 ms (messages of 100 ms)."""
    streams_per_process: int = 500
    """Chosen: `server.max_sessions`. Two thirds of a core."""
    handshake_ms: float = 0.7
    """Measured: CPU of a handshake and its session."""
    tls_ms: float = 1.0
    """Assumed: CPU of a TLS handshake."""
    processes_per_node: int = 28
    """Chosen: of 32 cores; the rest is for the kernel's network and the load balancer's agent."""
    regions: int = 3
    cells_per_region: int = 8
    headroom: float = 0.25
    """Chosen: capacity beyond the peak."""
    mean_stream_s: float = 300.0
    """Assumed."""
    speech: float = 0.4
    """Assumed: share of the audio that is speech, which the model hears."""
    model_rtf: float = 0.002
    """Assumed: seconds of one GPU for a second of speech, in batches."""
    kbit: float = 256.0
    """PCM of 16 kHz and 16 bits; Opus takes a tenth."""

    @property
    def cells(self) -> int:
        return self.regions * self.cells_per_region

    @property
    def processes(self) -> int:
        """Server processes, with the headroom; the same number in each cell."""
        return self.cells * math.ceil(self.streams * (1 + self.headroom) / self.streams_per_process / self.cells)

    @property
    def slots(self) -> int:
        return self.processes * self.streams_per_process

    @property
    def nodes(self) -> int:
        """Machines; a cell has its own."""
        return self.cells * math.ceil(self.processes / self.cells / self.processes_per_node)

    @property
    def gpus(self) -> int:
        """GPUs at the peak, with the same headroom."""
        return math.ceil(self.streams * self.speech * self.model_rtf * (1 + self.headroom))

    @property
    def core_share(self) -> float:
        """Share of a core that the streams of a full process take."""
        return self.streams_per_process * self.cpu_ms / 1000

    @property
    def handshakes_per_s(self) -> float:
        """Handshakes in a second that a full process can do beside its streams."""
        return (1 - self.core_share) * 1000 / (self.handshake_ms + self.tls_ms)

    @property
    def arrivals_per_s(self) -> float:
        """New streams in a second, at the peak."""
        return self.streams / self.mean_stream_s

    @property
    def gbit(self) -> float:
        """Audio in from all clients, in Gbit/s."""
        return self.streams * self.kbit / 1e6


def rows(plan: Plan) -> list[tuple[str, str, str]]:
    """Return the arithmetic: quantity, value, how it follows."""
    return [
        (
            "streams in a process",
            f"{plan.streams_per_process}",
            f"{plan.core_share:.0%} of a core at {plan.cpu_ms:g} ms; the most measured is {plan.most_streams}",
        ),
        ("slots", f"{plan.slots:,}", f"the peak and {plan.headroom:.0%} of headroom"),
        ("server processes (cores)", f"{plan.processes:,}", f"in {plan.cells} cells of {plan.processes // plan.cells}"),
        (
            "machines",
            f"{plan.nodes}",
            f"{plan.processes_per_node} processes on each, {plan.nodes // plan.cells} in a cell",
        ),
        (
            "streams in a cell",
            f"{plan.streams // plan.cells:,}",
            f"{plan.streams / plan.cells / plan.streams:.1%} of all: what one failure takes along",
        ),
        ("new streams", f"{plan.arrivals_per_s:,.0f} /s", f"streams of {plan.mean_stream_s:g} s"),
        (
            "handshakes that a full process can do",
            f"{plan.handshakes_per_s:.0f} /s",
            f"{1 - plan.core_share:.0%} of a core at {plan.handshake_ms + plan.tls_ms:g} ms with TLS",
        ),
        (
            "handshakes of the fleet",
            f"{plan.handshakes_per_s * plan.processes:,.0f} /s",
            f"{plan.handshakes_per_s * plan.processes / plan.arrivals_per_s:.0f} times the new streams",
        ),
        ("audio in", f"{plan.gbit:.0f} Gbit/s", f"PCM; {plan.gbit * 1000 / plan.nodes:.0f} Mbit/s for a machine"),
        ("GPUs", f"{plan.gpus:,}", f"{plan.speech:.0%} speech at a real-time factor of {plan.model_rtf:g} on one GPU"),
    ]
