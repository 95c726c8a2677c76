"""Any client at all against codec and session, in both dialects, with answers, time and drains at any moment."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from streamer.errors import ErrorCode
from streamer.protocols.codec import Codec
from streamer.protocols.v1 import V1Codec
from streamer.protocols.v2 import V2Codec
from streamer.session.actions import Action, Job, JobFailed, Outcome, Output
from streamer.session.events import Ack, ErrorEvent, Finished, Mode, Segment, Started
from streamer.session.session import Session
from streamer.session.settings import Limits, ModelOutput, SessionSettings
from tests.session.harness import SessionHarness, bursts

LOUD = bursts(0.0, 2.0).tobytes()
QUIET = bytes(64_000)
LIMITS = Limits(max_stream_s=30.0, max_model_failures=4, max_pending_messages=20, audio_ahead_s=5.0)

V2_ENCODINGS = ["pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "mulaw", "alaw"]
RATES = st.sampled_from([8_000, 16_000, 44_100, 48_000])
CHANNELS = st.sampled_from([1, 1, 1, 2, 8])
ODD = st.sampled_from([None, True, -1, 0, 9, 1.5, 10**30, "", "16000", [], {}])
"""What no field expects."""

SIZES = st.sampled_from([0, 1, 639, 640, 3_200, 3_200, 16_000, 64_000])
"""Bytes of one message."""
FIRST = {
    "v1": {
        "request": "start",
        "format": {"channels": 1, "sample_rate": 16_000, "bit_depth": 16, "is_float": False},
        "interim_results": True,
    },
    "v2": {
        "type": "start",
        "format": {"encoding": "pcm_s16le", "sample_rate": 16_000, "channels": 2},
        "interim_results": True,
    },
}

V1_FORMATS = st.fixed_dictionaries(
    {"channels": CHANNELS, "sample_rate": RATES, "bit_depth": st.just(16), "is_float": st.just(False)}
)
V2_FORMATS = st.fixed_dictionaries(
    {"encoding": st.sampled_from(V2_ENCODINGS), "sample_rate": RATES, "channels": CHANNELS}
)
V2_WISHES = st.fixed_dictionaries(
    {},
    optional={
        "interim_results": st.booleans(),
        "interim_interval_ms": st.sampled_from([1, 200, 3_600_000]),
        "chunk_ms": st.sampled_from([1, 100, 10_000]),
        "vad": st.just({"redemption_time_ms": 100}),
        "metadata": st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
        "options": st.dictionaries(st.text(max_size=4), ODD, max_size=3),
        "traceparent": st.text(max_size=60),
        "audio_out": st.fixed_dictionaries(
            {"encoding": st.sampled_from(V2_ENCODINGS), "sample_rate": RATES | ODD},
            optional={"paced": st.booleans()},
        ),
    },
)


class AnyClient(RuleBasedStateMachine):
    """One connection. Every rule is something that the world may do at any time."""

    frames = Bundle("frames")

    @initialize(dialect=st.sampled_from(["v1", "v2"]), mode=st.sampled_from(list(Mode)), stateful=st.booleans())
    def connect(self, dialect: str, mode: Mode, stateful: bool) -> None:
        self.dialect, self.mode = dialect, mode
        self.codec: Codec[str | bytes] = V1Codec(mode, 16_000) if dialect == "v1" else V2Codec(mode, 16_000)
        output = ModelOutput(24_000, latency_ms=10.0 if stateful else 0.0)
        self.outside = SessionHarness(SessionSettings(mode, stateful=stateful, limits=LIMITS, model_output=output))
        self.heard = 0
        self.say(json.dumps(FIRST[dialect]))  # most of a life is a stream

    @property
    def session(self) -> Session:
        return self.outside.session

    @property
    def open(self) -> bool:
        return not self.outside.closes

    def act(self, actions: Any) -> None:
        if self.open:
            taken: list[Action] = list(actions)
            self.outside.take(taken)
        else:
            assert not list(actions), "a closed session asks for nothing"

    def say(self, frame: str | bytes) -> None:
        self.act(self.session.receive(self.codec.decode(frame), self.outside.now))

    # What a client may do -----------------------------------------------------------------------

    @rule(target=frames, data=st.data())
    def start(self, data: st.DataObject) -> str:
        if self.dialect == "v1":
            message = {"request": "start", "format": data.draw(V1_FORMATS), "interim_results": data.draw(st.booleans())}
        else:
            message = {"type": "start", "format": data.draw(V2_FORMATS)} | data.draw(V2_WISHES)
        frame = json.dumps(message)
        self.say(frame)
        return frame

    @rule(form=V1_FORMATS | V2_FORMATS, field=st.sampled_from(["sample_rate", "channels", "encoding"]), value=ODD)
    def start_oddly(self, form: dict[str, Any], field: str, value: object) -> None:
        self.say(json.dumps({"request": "start", "type": "start", "format": form | {field: value}}))

    @rule(keep=st.booleans())
    def stop(self, keep: bool) -> None:
        self.say(json.dumps({"request": "stop", "disconnect": not keep} if self.dialect == "v1" else
                            {"type": "stop", "keep_open": keep}))  # fmt: skip

    @rule(message=st.sampled_from([{"type": "flush", "id": "f"}, {"type": "flush"}, {"type": "keepalive"},
                                   {"type": "clear"}, {"type": "auth", "token": "t"}]))  # fmt: skip
    def say_a_word(self, message: dict[str, str]) -> None:
        self.say(json.dumps(message))

    @rule(loud=st.booleans(), sizes=st.lists(SIZES, min_size=1, max_size=8))
    def audio(self, loud: bool, sizes: list[int]) -> None:
        for size in sizes:
            if self.open:
                self.say((LOUD if loud else QUIET)[:size])

    @rule(data=st.binary(max_size=64))
    def noise(self, data: bytes) -> None:
        self.say(data)

    @rule(frame=st.text(max_size=40) | st.recursive(ODD, lambda inner: st.lists(inner, max_size=3)).map(json.dumps))
    def nonsense(self, frame: str) -> None:
        self.say(frame)

    @rule(frame=frames, at=st.integers(0, 300), put=st.text(max_size=3), cut=st.integers(0, 20))
    def nearly(self, frame: str, at: int, put: str, cut: int) -> None:
        self.say(frame[:at] + put + frame[at + cut :])

    # What the world may do ----------------------------------------------------------------------

    @precondition(lambda self: self.outside.scores)
    @rule(which=st.integers(0, 7))
    def score(self, which: int) -> None:
        if self.open:
            self.outside.score_one(which % len(self.outside.scores))

    @precondition(lambda self: self.outside.jobs)
    @rule(
        which=st.integers(0, 7),
        fails=st.sampled_from([None, None, None, *list(ErrorCode)[-6:-3]]),
        extra=st.sampled_from([0, 0, 0, 1, -1]),
    )
    def infer(self, which: int, fails: ErrorCode | None, extra: int) -> None:
        def answer(job: Job) -> Outcome:
            if fails:
                return JobFailed(fails, "no")
            start, end = (3 * at // 2 + at % 2 for at in (job.start, job.end))
            audio = bytes(4 * max(0, end - start + extra))
            return replace(Output.of({"count": len(job.samples)}), audio=audio)

        self.outside.model = answer
        if self.open:
            self.outside.infer_one(list(self.outside.jobs)[which % len(self.outside.jobs)])

    @rule()
    def read_or_not(self) -> None:
        self.outside.reads = not self.outside.reads
        if self.open:
            self.act(())

    @precondition(lambda self: self.outside.scores or self.outside.jobs)
    @rule()
    def settle(self) -> None:
        if self.open:
            self.outside.settle()

    @rule(seconds=st.sampled_from([0.0] + [0.01] * 8 + [2.5] * 8 + [40.0]))
    def wait(self, seconds: float) -> None:
        self.outside.now += seconds
        self.act(self.session.on_timer(self.outside.now))

    @rule(what=st.sampled_from(["drain"] * 8 + ["held"] * 8 + ["finish", "expel"]))
    def conduct(self, what: str) -> None:
        now = self.outside.now
        match what:
            case "drain":
                self.act(self.session.drain(5.0, now))
            case "finish":
                self.act(self.session.finish(now))
            case "expel":
                self.act(self.session.close_with_error(ErrorCode.TOKEN_EXPIRED, "the token has expired", now))
            case _:
                self.session.forgive_silence(now)

    # What holds always --------------------------------------------------------------------------

    @invariant()
    def every_event_is_a_frame(self) -> None:
        new, self.heard = self.outside.events[self.heard :], len(self.outside.events)
        for event in new:
            frame = self.codec.encode(event)
            if isinstance(frame, str):
                assert "type" in json.loads(frame)

    @invariant()
    def a_closed_session_wants_nothing(self) -> None:
        if not self.open:
            assert self.session.deadline is None
            assert self.session.backlog_s == 0
        fatal = [event for event in self.outside.of(ErrorEvent) if event.fatal]
        assert len(fatal) <= 1
        if fatal:
            assert self.outside.events[-1] is fatal[0]
            assert self.outside.closes[0].code == fatal[0].code

    @invariant()
    def memory_is_bounded(self) -> None:
        # One message past twice the time that may be ahead; the smallest rate and frame make it longest.
        assert self.session.backlog_s <= 2 * LIMITS.audio_ahead_s + 64_000 / 8_000

    def teardown(self) -> None:
        if not hasattr(self, "outside"):
            return
        self.outside.settle()
        if self.open:
            self.outside.take(self.session.on_disconnect(self.outside.now))
        assert len(self.outside.released) == len(self.outside.of(Started))
        for events in self._streams():
            self._check_stream(events)

    def _streams(self) -> list[list[Any]]:
        """The events of each stream."""
        streams: list[list[Any]] = []
        for event in self.outside.events:
            if isinstance(event, Started):
                streams.append([])
            if streams:
                streams[-1].append(event)
        return streams

    def _check_stream(self, events: list[Any]) -> None:
        """One closing event at most; acks grow; in simple mode each range is answered once, in order, with no gap."""
        assert sum(isinstance(event, Finished) for event in events) <= 1
        acks = [event for event in events if isinstance(event, Ack)]
        assert [ack.committed for ack in acks] == sorted(ack.committed for ack in acks)
        assert all(ack.committed <= ack.received for ack in acks)
        if self.mode is Mode.SIMPLE:
            ends: dict[int, int] = {}
            for event in events:
                failed = isinstance(event, ErrorEvent) and None not in (event.channel, event.start)
                if isinstance(event, Segment) or failed:
                    assert event.start == ends.get(event.channel or 0, 0)
                    ends[event.channel or 0] = event.end or 0


TestAnyClient = AnyClient.TestCase
TestAnyClient.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
