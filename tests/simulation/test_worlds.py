"""A few worlds with every run of the tests; `make simulate` plays thousands."""

from __future__ import annotations

import pytest

from tests.simulation.world import World


@pytest.mark.parametrize("seed", range(40))
def test_no_world_breaks_a_promise(seed: int) -> None:
    score = World(seed).run()
    assert score.sessions + score.refused > 0


def test_a_seed_replays_exactly() -> None:
    first, again = World(7).run(), World(7).run()
    assert first == again
