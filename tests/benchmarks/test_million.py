"""The plan for a million streams: its page has what the script found, and a small run finds the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.million.plan import Plan, rows
from benchmarks.million.results import PAGE, Results, load, written
from benchmarks.million.scenes import QUEUE_S, Return, cells_of, day, loss
from benchmarks.million.world import Clients, World

QUANTUM = 2_500
SMALL = 4_000


@pytest.fixture(scope="module")
def results() -> Results:
    return load()


def test_the_page_has_the_tables_of_the_last_run(results: Results) -> None:
    page = PAGE.read_text()
    assert page == written(page, results), "run `python -m benchmarks.million --draw`"


def test_the_last_run_was_of_the_plan_as_it_is(results: Results) -> None:
    assert results.plan == Plan(), "run `python -m benchmarks.million`"


def test_the_arithmetic_holds_the_peak_and_its_headroom() -> None:
    plan = Plan()
    assert plan.slots >= plan.streams * (1 + plan.headroom)
    assert plan.nodes * plan.processes_per_node >= plan.processes
    assert plan.core_share < 1
    assert all(all(row) for row in rows(plan))


def test_no_stream_is_counted_twice_or_forgotten() -> None:
    plan = Plan()
    world = World(cells_of(plan, SMALL), Clients(plan.mean_stream_s), seed=1, known_after_s=15.0)
    filled = plan.streams // SMALL
    world.fill(filled)
    world.arrive(lambda _: filled / plan.mean_stream_s, 60.0)
    world.lose(world.cells[:3])
    for until in (0.5, 5.0, 30.0, 60.0):
        world.clock.run(until)
        assert world.live + world.ended + world.lost == filled + world.begun
        assert world.wanted == world.begun + world.outside
        assert all(0 <= cell.live <= cell.slots for cell in world.cells)
        assert not any(cell.live for cell in world.cells[:3])


def test_a_seed_has_one_outcome() -> None:
    def once(seed: int) -> Return:
        return loss("", Plan(), Clients(spread_s=10.0), lost_cells=8, quantum=SMALL, seed=seed, minutes=1.0)

    assert once(1) == once(1)
    assert once(1) != once(2)


@pytest.mark.parametrize("headroom", [0.05, 0.25, 0.5])
def test_a_small_run_of_a_lost_region_ends_as_the_page_says(results: Results, headroom: float) -> None:
    plan = replace(Plan(), headroom=headroom)
    small = loss("", plan, Clients(spread_s=10.0), lost_cells=plan.cells_per_region, quantum=QUANTUM, seed=7)
    [full] = [
        each for each in results.losses if (each.name, each.headroom, each.spread_s) == ("a region", headroom, 10)
    ]
    assert (small.most_s is None) == (full.most_s is None)
    assert small.served == pytest.approx(full.served, abs=0.05)


@pytest.mark.parametrize(("spread_s", "queue_s"), [(0.0, None), (30.0, None), (0.0, QUEUE_S), (30.0, QUEUE_S)])
def test_a_small_run_of_a_storm_ends_or_does_not_as_the_page_says(
    results: Results, spread_s: float, queue_s: float | None
) -> None:
    plan = replace(Plan(), handshake_ms=10.0 - Plan().tls_ms)
    small = loss("", plan, Clients(spread_s=spread_s), lost_cells=0, quantum=QUANTUM, seed=7, queue_s=queue_s)
    [full] = [
        each for each in results.storms if (each.handshake_ms, each.spread_s, each.queue_s) == (10.0, spread_s, queue_s)
    ]
    assert (small.most_s is None) == (full.most_s is None)
    assert small.wasted == pytest.approx(full.wasted, abs=0.05)
    if small.most_s is not None and full.most_s is not None:
        assert small.most_s == pytest.approx(full.most_s, rel=0.2)


def test_a_small_day_refuses_more_with_less_headroom_and_slower_machines() -> None:
    fleet = replace(Plan(), streams=125_000, cells_per_region=1)
    quick = day(fleet, target=0.7, start_s=30.0, quantum=1_000)
    slow = day(fleet, target=0.85, start_s=600.0, quantum=1_000)
    assert quick.refused < slow.refused
    assert slow.process_hours < quick.process_hours < 1
