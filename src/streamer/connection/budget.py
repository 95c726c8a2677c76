"""Budget of event loop time that one connection, and one address, may use for anything but audio."""

from __future__ import annotations

from dataclasses import dataclass

TOO_MUCH_CONTROL_WORK = (
    "pings, control messages and empty frames used more server time than one client may use: send fewer"
)
"""Error message for a client that exceeded its budget."""
TOO_MUCH_OF_ADDRESS = "connections of this address took more of the server's time than one address may; try later"
"""Error message for a client whose address exceeded its budget."""


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """Limits of a `WorkBudget`, in seconds of the event loop's time."""

    share: float = 0.01
    """Long-term share: seconds per second."""
    burst_s: float = 0.025
    """Largest burst in seconds."""
    max_throttled_s: float = 5.0
    """Longest time for which a connection is throttled, without recovering `burst_s`, before it is closed."""


@dataclass(frozen=True, slots=True)
class AddressLimits:
    """Bounds of an `AddressBudget`, in seconds of the event loop's time."""

    share: float = 0.1
    """Long-term share: seconds per second."""
    burst_s: float = 0.15
    """Largest burst in seconds."""
    max_debt_s: float = 1.0
    """Largest debt in seconds; more is forgiven. An address is refused for at most `max_debt_s / share` seconds."""
    spare_s: float = 0.002
    """Burst in seconds of each connection while the address is in debt."""


class AddressBudget:
    """A token bucket of time spent on all connections of one address together.

    Connections are treated alike. If the address is in debt, a connection that uses less than its part of the share is
    not slowed for its neighbours.
    """

    def __init__(self, limits: AddressLimits) -> None:
        self.limits = limits
        self.connections = 0
        self._left_s = limits.burst_s
        self._charged_at = 0.0

    def charge(self, spent_s: float, now: float) -> float:
        """Count time spent; returns for how many seconds from `now` (monotonic) the address owes."""
        self._left_s = max(-self.limits.max_debt_s, self._left(now) - spent_s)
        self._charged_at = now
        return self.wait_s(now)

    def wait_s(self, now: float) -> float:
        """Return for how many seconds from `now` (monotonic) the address owes."""
        return max(0.0, -self._left(now)) / self.limits.share

    def is_full(self, now: float) -> bool:
        """Whether the address has paid for everything."""
        return self._left(now) >= self.limits.burst_s

    @property
    def part(self) -> float:
        """Share of each connection, in seconds a second."""
        return self.limits.share / max(1, self.connections)

    def _left(self, now: float) -> float:
        return min(self.limits.burst_s, self._left_s + (now - self._charged_at) * self.limits.share)


class WorkBudget:
    """Token bucket of CPU time for pings, empty frames and control messages.

    It counts time, not messages: a start costs fifty times as much as a ping. Audio has other limits. The time is CPU
    time (`time.thread_time`), so a client is not charged for a busy machine. At most `burst_s` of one step is charged:
    a longer step included Python's garbage collector.
    """

    def __init__(self, limits: WorkLimits, address: AddressBudget | None = None) -> None:
        """Create a full budget. `address`: charged for the same time."""
        self._limits = limits
        self._address = address
        self._remaining_s = limits.burst_s
        self._spare_s = address.limits.spare_s if address is not None else 0.0
        self._charged_at = 0.0
        self._throttled_s = 0.0

    def charge(self, spent_s: float, now: float) -> float:
        """Charge CPU time; return for how many seconds from `now` (monotonic) the peer should not be read."""
        limits = self._limits
        remaining_s = self._remaining_s + (now - self._charged_at) * limits.share
        wait_s = self._charge_address(spent_s, now)
        if remaining_s >= limits.burst_s:
            remaining_s = limits.burst_s
            if wait_s == 0.0:
                self._throttled_s = 0.0
        self._charged_at = now
        self._remaining_s = remaining_s = remaining_s - min(spent_s, limits.burst_s)
        if remaining_s < 0:
            wait_s = max(wait_s, -remaining_s / limits.share)
        self._throttled_s += wait_s
        return wait_s

    @property
    def is_exhausted(self) -> bool:
        """Whether the peer exceeded its budget for too long and should be closed."""
        return self._throttled_s > self._limits.max_throttled_s

    def _charge_address(self, spent_s: float, now: float) -> float:
        """Count time spent for the address; returns for how many seconds the peer should wait for its neighbours."""
        address = self._address
        if address is None:
            return 0.0
        owed_s = address.charge(spent_s, now)
        part = address.part
        spare = min(address.limits.spare_s, self._spare_s + (now - self._charged_at) * part)
        self._spare_s = spare = spare - spent_s
        return min(owed_s, -spare / part) if owed_s and spare < 0 else 0.0
