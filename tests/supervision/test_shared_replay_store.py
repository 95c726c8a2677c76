"""A token that works once works once, however many processes there are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.access.replay_store import InMemoryReplayStore, TokenReplayed
from streamer.errors import Overloaded
from streamer.supervision import shared_replay_store
from streamer.supervision.shared_replay_store import SharedReplayStore, new_table

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is shared on Linux only")


@pytest.fixture
def descriptor() -> Iterator[int]:
    table = new_table()
    yield table
    os.close(table)


@pytest.fixture
def used(descriptor: int) -> Iterator[SharedReplayStore]:
    cache = SharedReplayStore(descriptor)
    yield cache
    cache.close()


def test_a_token_works_once_until_it_has_expired_anyway(used: SharedReplayStore) -> None:
    used.use("a", 100.0, 0.0)
    with pytest.raises(TokenReplayed):
        used.use("a", 100.0, 99.9)
    used.use("b", 100.0, 0.0)
    used.use("a", 200.0, 100.0)


USES = """
import sys
from streamer.access.replay_store import TokenReplayed
from streamer.supervision.shared_replay_store import SharedReplayStore
used, lucky = SharedReplayStore(int(sys.argv[1])), 0
for number in range(2_000):
    try:
        used.use(str(number), 100.0, 0.0)
        lucky += 1
    except TokenReplayed:
        pass
print(lucky)
"""


def test_of_processes_that_use_the_same_tokens_at_the_same_time_one_has_luck(descriptor: int) -> None:
    commands = [[sys.executable, "-c", USES, str(descriptor)]] * 3
    running = [subprocess.Popen(command, pass_fds=[descriptor], stdout=subprocess.PIPE) for command in commands]
    assert sum(int(process.communicate(timeout=30)[0]) for process in running) == 2_000


def test_a_full_table_lets_nobody_new_in_until_something_has_expired(
    used: SharedReplayStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_replay_store, "SLOTS", 8)
    for number in range(8):
        used.use(str(number), 10.0 + number, 0.0)
    with pytest.raises(Overloaded):
        used.use("one more", 100.0, 0.0)
    used.use("one more", 100.0, 10.0)
    with pytest.raises(TokenReplayed):
        used.use("one more", 100.0, 11.0)
    with pytest.raises(TokenReplayed):
        used.use("7", 100.0, 11.0)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 9), st.integers(0, 3)), max_size=60))
def test_it_says_what_the_cache_of_one_process_says(steps: list[tuple[int, int, int]]) -> None:
    table = new_table()
    shared, alone, now = SharedReplayStore(table), InMemoryReplayStore(), 0.0
    for token, life, pause in steps:
        now += pause
        told = []
        for cache in (shared, alone):
            try:
                cache.use(str(token), now + life, now)
                told.append("fresh")
            except TokenReplayed:
                told.append("replayed")
        assert told[0] == told[1]
    shared.close()
    os.close(table)
