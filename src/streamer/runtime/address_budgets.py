"""Budgets of work for addresses: what all connections of one take together for anything but audio."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from streamer.clock import Clock, LoopClock
from streamer.runtime.admission import network_of
from streamer.runtime.budget import AddressBudget, AddressLimits

MAX_REMEMBERED = 10_000
"""Addresses without a connection whose budget is kept. The one that was added first is forgotten for one more."""
AUDIO_PAYS = 0.01
"""Seconds of work for each second of audio that need no bound: opening a connection that is used is no attack."""
_MAX_LOOKS = 4
"""Addresses that are looked at, and forgotten if they have paid, each time that one is added."""


class AddressBudgets:
    """Table of an `AddressBudget` for each IPv4 address or IPv6 /64 that has connections, or still owes."""

    def __init__(self, share: float = 0.0, clock: Clock | None = None) -> None:
        """`share`: seconds a second for each address; 0 for no bound."""
        self._limits = AddressLimits(share) if share else None
        self.clock: Clock = clock or LoopClock()
        self._budgets: dict[str, AddressBudget] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        """Addresses without a connection, the oldest first."""

    def __len__(self) -> int:
        """Addresses in the table."""
        return len(self._budgets)

    def of(self, address: str | None) -> AddressBudget | None:
        """Return the budget of an address; None if there is no bound."""
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
        """Count a connection of an address for the time of the context; yields the budget of the address."""
        budget = self.enter(address)
        try:
            yield budget
        finally:
            self.leave(address)

    def enter(self, address: str | None) -> AddressBudget | None:
        """Count a connection of an address, until `leave`; returns the budget of the address."""
        budget = self.of(address)
        if budget is not None:
            budget.connections += 1
            self._idle.pop(network_of(address or "unknown"), None)
        return budget

    def leave(self, address: str | None) -> None:
        """Count a connection of an address no more."""
        budget = self.of(address)
        if budget is not None:
            budget.connections -= 1
            if not budget.connections:
                self._idle[network_of(address or "unknown")] = None

    def charge(self, address: str | None, spent_s: float) -> None:
        """Count CPU time that was spent on an address."""
        budget = self.of(address)
        if budget is not None:
            budget.charge(spent_s, self.clock.now())

    def charge_session(self, address: str | None, spent_s: float, audio_s: float) -> None:
        """Count CPU time spent on opening and ending a session, less what `audio_s` seconds of audio pay for."""
        if spent_s > audio_s * AUDIO_PAYS:
            self.charge(address, spent_s - audio_s * AUDIO_PAYS)

    def wait_s(self, address: str | None) -> float:
        """Return for how many seconds nothing more should be begun for an address."""
        budget = self.of(address)
        return 0.0 if budget is None else budget.wait_s(self.clock.now())

    def _forget(self) -> None:
        """Drop a few idle addresses that have paid, and the oldest if there are too many."""
        now = self.clock.now()
        for _ in range(min(_MAX_LOOKS, len(self._idle) - 1)):
            oldest, _ = self._idle.popitem(last=False)
            if self._budgets[oldest].is_full(now) or len(self._idle) > MAX_REMEMBERED:
                del self._budgets[oldest]
            else:
                self._idle[oldest] = None
