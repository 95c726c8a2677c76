"""Whatever sessions do and models suffer, each job wanted gets exactly one last outcome and nothing is left behind."""

import asyncio
import os
import random
import signal
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import ModelFailed
from streamer.inference.settings import EngineSettings
from streamer.models.contract import Model, StreamingModel
from streamer.session.actions import JobFailed, JobKind, Output, Shed
from tests.inference.harness import PATIENCE_S, Outcomes, Recorder, job, running, until
from tests.inference.test_process import doing, villain

ACTS = ("fine", "words", "refuse", "raise", "junk")


def act(item):
    match ACTS[int(item.samples[0]) % len(ACTS)]:
        case "fine":
            return item.start
        case "words":
            return iter(["a", "a b", "a b c"])
        case "refuse":
            return ModelFailed("no")
        case "raise":
            raise RuntimeError("uncaught")
        case _:
            return object()


class Chaotic(Model):
    max_batch_size = 3
    max_batch_wait_ms = 0.5
    workers = 2

    def infer(self, batch):
        return [act(item) if item.session_id else None for item in batch]


class ChaoticStream(StreamingModel):
    max_batch_size = 3
    max_batch_wait_ms = 0.5
    workers = 2
    open_states = 0
    lock = threading.Lock()

    def open(self, info):
        with self.lock:
            ChaoticStream.open_states += 1
        return []

    def step(self, states, batch):
        return [(state, act(item) if item.session_id else None) for state, item in zip(states, batch, strict=True)]

    def close(self, state):
        with self.lock:
            ChaoticStream.open_states -= 1


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("submit"),
            st.sampled_from("abc"),
            st.integers(0, 1),  # stream
            st.integers(0, 1),  # channel
            st.sampled_from(list(JobKind)),
            st.integers(0, len(ACTS) - 1),
        ),
        st.tuples(st.just("cancel"), st.sampled_from("abc"), st.integers(0, 30)),
        st.tuples(st.just("release"), st.sampled_from("abc"), st.sampled_from([None, 0, 1])),
        st.tuples(st.just("breathe"), st.integers(0, 2)),
    ),
    max_size=30,
)


async def live_through(model, steps):
    got, wanted = Outcomes(), set()
    async with running(model, EngineSettings(max_pending_items=6)) as engine:
        for number, (step, *rest) in enumerate(steps):
            match step:
                case "submit":
                    session, stream, channel, kind, what = rest
                    new = job(number, session, stream=stream, channel=channel, kind=kind, value=float(what))
                    got.submit(engine, new)
                    wanted.add((session, number))
                case "cancel":
                    engine.cancel(*rest)
                    if got.last(rest[1], rest[0]) is None:
                        wanted.discard(tuple(rest))
                case "release":
                    engine.release(*rest)
                    if rest[1] is None:
                        wanted -= {key for key in wanted if key[0] == rest[0] and got.last(key[1], key[0]) is None}
                case "breathe":
                    await asyncio.sleep(rest[0] / 1000)
        await got.wait_all(wanted)
        await until(lambda: engine.depth.running_items == 0)
        for session in "abc":
            engine.release(session)
        await until(lambda: engine.depth.workers_idle == 2)
        assert engine.depth.pending_items == engine.depth.pending_seconds == 0
        assert not engine._entries
        assert not engine._jobs_of
        assert not engine._sessions
        assert len(engine._affinity) == 0
        assert not any(slot.closing_keys for slot in engine._pool.slots)
    for (session, number), outcomes in got.of.items():
        last = [one for one in outcomes if not (isinstance(one, Output) and one.partial)]
        assert len(last) == ((session, number) in wanted)
        if last:
            assert isinstance(outcomes[-1], Output | JobFailed | Shed)
            assert outcomes[-1] is last[0]
    return engine


@settings(max_examples=40, deadline=None)
@given(steps)
async def test_jobs_of_a_model_all_end_once(steps):
    await live_through(Chaotic, steps)


@settings(max_examples=40, deadline=None)
@given(steps)
async def test_jobs_of_a_streaming_model_all_end_once_and_states_are_closed(steps):
    ChaoticStream.open_states = 0
    await live_through(ChaoticStream, steps)
    assert ChaoticStream.open_states == 0


@pytest.mark.parametrize("name", ["Villain", "Counter"])
async def test_jobs_end_once_while_workers_are_killed_at_random(name):
    chance = random.Random(4)
    got, record, pids = Outcomes(), Recorder(), set()
    spec = villain(name, workers=2, max_batch_size=3, max_batch_wait_ms=1.0)
    async with running(spec, EngineSettings(restart_backoff_s=0.01), observer=record) as engine:
        keys = []
        for number in range(45):
            session = chance.choice("abcd")
            keys.append((session, number))
            got.submit(engine, doing(number, session, chance.choice(["answer"] * 39 + ["die"])))
            if number % 6 == 5:
                outcome = await got.wait(number, session)
                pids |= {outcome.decode()["pid"]} if isinstance(outcome, Output) else set()
            if number in (15, 30) and pids:
                with_luck_alive = pids.pop()
                try:
                    os.kill(with_luck_alive, signal.SIGKILL)
                except ProcessLookupError:
                    pids.clear()
        async with asyncio.timeout(PATIENCE_S * 2):
            await got.wait_all(keys)
        await until(lambda: engine.depth.workers_idle == 2)
        assert engine.depth.pending_items == engine.depth.running_items == 0
        assert record.lost
        for session in "abcd":
            engine.release(session)
        assert not engine._entries
    assert all(len(got.of[key]) == 1 for key in keys)
    answered = [key for key in keys if isinstance(got.of[key][0], Output)]
    assert len(answered) >= 25
