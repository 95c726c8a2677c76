"""Work budgets of addresses: the time that all connections of one address use for anything but audio."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from streamer.clock import Clock, LoopClock
from streamer.connection.admission import network_of
from streamer.connection.budget import AddressBudget, AddressLimits

MAX_REMEMBERED = 10_000
"""Addresses without a connection whose budget is stored. The oldest is forgotten for one more."""
AUDIO_PAYS = 0.01
"""Seconds of work that each second of audio pays for: opening a connection that sends audio is not an attack."""
_MAX_LOOKS = 4
"""Addresses that are checked, and forgotten if they owe nothing, each time that one is added."""


class AddressBudgets:
    """Table of an `AddressBudget` for each IPv4 address or IPv6 /64 with connections or a debt."""

    def __init__(self, share: float = 0.0, clock: Clock | None = None) -> None:
        """Create the table. `share`: seconds per second for each address; 0 for no limit."""
        self._limits = AddressLimits(share) if share else None
        self.clock: Clock = clock or LoopClock()
        self._budgets: dict[str, AddressBudget] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        """Addresses without a connection, the oldest first."""

    def __len__(self) -> int:
        """Return the number of addresses in the table."""
        return len(self._budgets)

    def of(self, address: str | None) -> AddressBudget | None:
        """Return the budget of an address; None without a limit."""
        if self._limits is None:
            return None
        network = network_of(address or "unknown")
        budget = self._budgets.get(network)
        if budget is None:
            budget = self._budgets[network] = AddressBudget(self._limits)
            self._idle[network] = None
            self._forget()
        return budget

    @contextmanager
    def connected(self, address: str | None) -> Iterator[AddressBudget | None]:
        """Count a connection of an address during the context; yield the budget of the address."""
        budget = self.enter(address)
        try:
            yield budget
        finally:
            self.leave(address)

    def enter(self, address: str | None) -> AddressBudget | None:
        """Count a connection of an address until `leave`; return the budget of the address."""
        budget = self.of(address)
        if budget is not None:
            budget.connections += 1
            self._idle.pop(network_of(address or "unknown"), None)
        return budget

    def leave(self, address: str | None) -> None:
        """Stop counting a connection of an address."""
        budget = self.of(address)
        if budget is not None:
            budget.connections -= 1
            if not budget.connections:
                self._idle[network_of(address or "unknown")] = None

    def charge(self, address: str | None, spent_s: float) -> None:
        """Charge CPU time to an address."""
        budget = self.of(address)
        if budget is not None:
            budget.charge(spent_s, self.clock.now())

    def charge_session(self, address: str | None, spent_s: float, audio_s: float) -> None:
        """Charge the CPU time of opening and closing a session, minus what `audio_s` seconds of audio pay for."""
        if spent_s > audio_s * AUDIO_PAYS:
            self.charge(address, spent_s - audio_s * AUDIO_PAYS)

    def wait_s(self, address: str | None) -> float:
        """Return for how many seconds an address may not start anything new."""
        budget = self.of(address)
        return 0.0 if budget is None else budget.wait_s(self.clock.now())

    def _forget(self) -> None:
        """Remove a few idle addresses without a debt, and the oldest if there are too many."""
        now = self.clock.now()
        for _ in range(min(_MAX_LOOKS, len(self._idle) - 1)):
            oldest, _ = self._idle.popitem(last=False)
            if self._budgets[oldest].is_full(now) or len(self._idle) > MAX_REMEMBERED:
                del self._budgets[oldest]
            else:
                self._idle[oldest] = None
