"""Streaming models: one piece per channel at a time, states opened once, closed once, whatever comes between."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import ErrorCode, ModelFailed
from streamer.inference.affinity import AffinityTable
from streamer.models.contract import StreamingModel
from streamer.session.actions import JobFailed, JobKind, Output
from tests.inference.harness import Outcomes, Recorder, job, running, until


class Ledger(StreamingModel):
    """Remembers every call; a state is the list of starts it has seen."""

    max_batch_size = 4
    max_batch_wait_ms = 20.0

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.opened = []
        self.closed = []
        self.batches = []

    def open(self, info):
        if info.options.get("refuse"):
            raise ModelFailed("this stream is not for me")
        if info.session_id:
            self.opened.append((info.session_id, info.channel))
        return (info.session_id, info.channel, [])

    def step(self, states, batch):
        assert self.gate.wait(20)
        self.batches.append([(item.session_id, item.channel) for item in batch])
        for state, item in zip(states, batch, strict=True):
            state[2].append(item.start)
        return [(state, list(state[2])) for state in states]

    def close(self, state):
        if state[0]:
            self.closed.append(state[:2])


async def test_pieces_of_a_channel_run_singly_in_order_and_batches_go_over_sessions():
    model, got = Ledger(), Outcomes()
    async with running(lambda: model) as engine:
        assert engine.model.stateful
        assert engine.model.max_inflight == 1
        for number in range(3):
            for session in ("a", "b"):
                got.submit(engine, job(number, session, kind=JobKind.PIECE, start=number * 160))
        await got.wait_all([(session, 2) for session in "ab"])
    assert [got.last(number, "a").decode() for number in range(3)] == [[0], [0, 160], [0, 160, 320]]
    assert all(len(set(batch)) == len(batch) for batch in model.batches)
    assert [("a", 0), ("b", 0)] in model.batches


async def test_state_ends_with_its_stream_and_the_next_begins_anew():
    model, got = Ledger(), Outcomes()
    async with running(lambda: model) as engine:
        got.submit(engine, job(0, stream=0, start=0))
        got.submit(engine, job(1, stream=0, start=0, channel=1))
        await got.wait_all([("s", 0), ("s", 1)])
        engine.release("s", 0)
        got.submit(engine, job(2, stream=1, start=5))
        assert await got.wait(2) == Output.of([5])
        assert sorted(model.closed) == [("s", 0), ("s", 1)]
        engine.release("s")
        await until(lambda: len(model.closed) == 3)
        assert len(engine._affinity) == 0
        assert not engine._pool.slots[0].closing_keys


async def test_release_while_a_job_runs_closes_the_state_after_it():
    model, got = Ledger(), Outcomes()
    async with running(lambda: model) as engine:
        model.gate.clear()
        got.submit(engine, job(0))
        await until(lambda: engine.depth.running_items == 1)
        engine.release("s")
        assert not model.closed
        model.gate.set()
        await until(lambda: model.closed == [("s", 0)])
        assert len(engine._affinity) == 0
    assert not got.of["s", 0]


async def test_stream_that_cannot_be_opened_fails_alone():
    model, got = Ledger(), Outcomes()
    async with running(lambda: model) as engine:
        got.submit(engine, job(0, "bad", options=b'{"refuse":true}'))
        got.submit(engine, job(0, "good"))
        assert await got.wait(0, "bad") == JobFailed(ErrorCode.MODEL_ERROR, "this stream is not for me")
        assert await got.wait(0, "good") == Output.of([0])


async def test_error_on_closing_is_logged_and_harms_nobody(caplog):
    class Bad(Ledger):
        def close(self, state):
            if state[0]:
                raise RuntimeError("cannot let go")

    got = Outcomes()
    async with running(Bad) as engine:
        got.submit(engine, job(0))
        await got.wait(0)
        engine.release("s")
        await until(lambda: "cannot let go" in caplog.text)
        got.submit(engine, job(0, "t"))
        assert isinstance(await got.wait(0, "t"), Output)


async def test_uncaught_error_fails_its_batch_and_the_states_stay():
    class Raises(Ledger):
        def step(self, states, batch):
            if any(item.start == 13 for item in batch):
                raise RuntimeError
            return super().step(states, batch)

    got, record = Outcomes(), Recorder()
    async with running(Raises, observer=record) as engine:
        for number, start in enumerate((0, 13, 26)):
            got.submit(engine, job(number, start=start))
        await got.wait(2)
    assert got.last(1) == JobFailed(ErrorCode.MODEL_ERROR, "Internal server error")
    assert got.last(2) == Output.of([0, 26])


LANES = st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.integers(0, 1))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("enter"), LANES),
            st.tuples(st.just("leave"), LANES),
            st.tuples(st.just("release"), st.sampled_from("ab"), st.sampled_from([None, 0, 1])),
            st.tuples(st.just("lose"), st.integers(0, 2)),
        ),
        max_size=40,
    )
)
def test_lanes_leave_nothing_behind(steps):
    lanes, jobs, held = AffinityTable(), {}, {}

    def closed(lane, home):
        assert held.pop(lane) == home

    for step, *rest in steps:
        match step:
            case "enter":
                lanes.add_job(rest[0])
                lanes.assign([0, 1, 2])
                lanes.start_job(rest[0])
                held[rest[0]] = lanes.assignments[rest[0]]
                jobs[rest[0]] = jobs.get(rest[0], 0) + 1
            case "leave" if jobs.get(rest[0]):
                jobs[rest[0]] -= 1
                home = lanes.finish_job(rest[0])
                if home is not None:
                    closed(rest[0], home)
            case "release":
                for lane, home in lanes.release(*rest):
                    closed(lane, home)
            case "lose":
                lanes.remove_worker(rest[0])
                held = {lane: home for lane, home in held.items() if home != rest[0]}
    for lane, count in jobs.items():
        for _ in range(count):
            home = lanes.finish_job(lane)
            if home is not None:
                closed(lane, home)
    for session in "ab":
        for lane, home in lanes.release(session, None):
            closed(lane, home)
    assert len(lanes) == 0
    assert not held
    assert not lanes.assignments
    assert all(lanes.load(worker) == 0 for worker in range(3))
