"""The session: everything that one connection may send and receive, as a state machine. See docs/design/core.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from streamer.errors import RETRY_AFTER, ErrorCode, StreamerError
from streamer.session.actions import Action, Close, Emit, JobId, Outcome, Release
from streamer.session.boundary import Boundary
from streamer.session.checking import checked_vad
from streamer.session.events import Cleared, Draining, Failed, Finished, FinishReason, Flushed, Warned, WarningCode
from streamer.session.load import Load
from streamer.session.memory import MemoryPool
from streamer.session.messages import Audio, Configure, Flush, Leave, Malformed, Message, SetFormat, Start, Stop
from streamer.session.settings import SessionSettings
from streamer.session.state import TABLE, State, Step
from streamer.session.stream import Stream
from streamer.session.summary import Summary

_STREAMING = State.STREAMING

NOTHING: Sequence[Action] = ()
"""Result of most calls; shared, so that a message creates no list."""


class Session:
    """One connection. Inputs return actions, and never raise for client input.

    `now` is monotonic seconds and must not decrease. `deadline` is the time of the next `tick`. Answers to `Score` and
    `Infer` return through `scored` and `inferred`, once per request, in any order between channels and jobs.
    """

    def __init__(self, settings: SessionSettings, session_id: str, now: float, pool: MemoryPool | None = None) -> None:
        """Create a session. `pool`: memory for audio that it shares with other sessions; None for its own."""
        self.settings = settings
        self.id = session_id
        self.traceparent: str | None = None
        """Sent in `started`; set by the tracer, otherwise the client's."""
        self.state = State.NEW
        """State of the session; only its steps change it."""
        self._stream: Stream | None = None
        self._boundary: Boundary | None = None
        self._agreed: Start | None = None
        self.load = Load(settings.limits, pool or MemoryPool())
        self._pending = self.load.pending
        self._born = self._heard = self._heard_audio = now
        self._streams = 0
        self._next_job: JobId = 1
        self._refused_audio = False
        self._code: ErrorCode | None = None
        self._sums = Summary()

    # Queries ------------------------------------------------------------------------------------

    @property
    def backlog_s(self) -> float:
        """Seconds of audio received and not yet processed. Above `limits.audio_ahead_s`, reading should pause."""
        return self.load.backlog_s

    @property
    def held_bytes(self) -> int:
        """Bytes of memory for audio. Above `limits.max_session_bytes`, reading should pause."""
        return self.load.held_bytes

    def wanted_bytes(self) -> int:
        """Return the bytes of audio that the next step needs, at most some 32 ms; 0 if any message counts."""
        return self._stream.wanted_bytes() if self._stream is not None and self.state is _STREAMING else 0

    def arrival(self, position: int) -> float | None:
        """Return when the running stream's audio up to this sample (at the model's rate) arrived; None without."""
        return self._stream.arrival(position) if self._stream is not None else None

    @property
    def deadline(self) -> float | None:
        """Time of the next `tick`; None for never. Only a call that returns more than scores can bring it forward."""
        silence, stream = self._silence_deadline, self._stream
        if stream is None or stream.output is None or (due := stream.output.deadline) is None or silence is None:
            return silence
        return min(silence, due)

    @property
    def has_audio_out(self) -> bool:
        """Whether the running stream sends audio, so that an answer may bring the deadline forward."""
        return self._stream is not None and self._stream.output is not None

    @property
    def _silence_deadline(self) -> float | None:
        limits, stream = self.settings.limits, self._stream
        if self.state is State.CLOSED:
            return None
        if self.state is State.NEW:
            return self._born + limits.start_timeout_s
        idle = self._heard + limits.idle_timeout_s
        if self.state is State.STREAMING and stream is not None and self.settings.stall_timeout_s and stream.speaking:
            return min(idle, self._heard_audio + self.settings.stall_timeout_s)
        return idle

    @property
    def summary(self) -> Summary:
        return replace(self._with_stream(), code=self._code, bad_packets=self.load.bad_packets)

    # Input --------------------------------------------------------------------------------------

    def receive(self, message: Message, now: float) -> Sequence[Action]:
        """Process a message of the client."""
        self._heard = now
        out: list[Action] = []
        if type(message) is Audio:
            self._heard_audio = now
            if self.state is _STREAMING:  # the most frequent case
                self._append(message, out, now)
                return out
        if isinstance(message, Malformed):
            self._malformed(message, out)
        else:
            self._take(message, out, now)
            self._advance(out, now)
            self._check_pending(out)
        return out or NOTHING

    def scored(self, channel: int, speech: Sequence[float], now: float) -> Sequence[Action]:
        """Take the speech probabilities of the pending `Score` of this channel, one per window."""
        if self._stream is None or self.state is State.CLOSED:
            return NOTHING
        out: list[Action] = []
        self._stream.scored(channel, speech, out, now)
        if self._boundary is not None:
            self._advance(out, now)
        return out

    def inferred(self, job: JobId, outcome: Outcome, now: float) -> Sequence[Action]:
        """Take the model's answer to a job, or a part of it."""
        if self._stream is None or self.state is State.CLOSED:
            return NOTHING
        out: list[Action] = []
        self._stream.inferred(job, outcome, out, now)
        if self._stream.tally.failed_in_a_row >= (most := self.settings.limits.max_model_failures):
            self._fail(ErrorCode.MODEL_ERROR, f"the model failed {most} times in a row", out)
        self._advance(out, now)
        return out

    def tick(self, now: float) -> Sequence[Action]:
        """Handle time-outs at the deadline. An early call has no effect."""
        deadline = self.deadline
        if deadline is None or now < deadline:
            return NOTHING
        out: list[Action] = []
        self._play(out, now)
        deadline = self._silence_deadline
        if deadline is None or now < deadline:
            return out
        limits = self.settings.limits
        if self.state is State.NEW:
            self._fail(ErrorCode.START_TIMEOUT, f"no start message within {limits.start_timeout_s:g} s", out)
        elif self.state in (State.FLUSHING, State.FINISHING):
            self._heard = now  # the scorer and the engine have their own time-outs; the client owes nothing meanwhile
        elif now >= self._heard + limits.idle_timeout_s:
            self._fail(ErrorCode.IDLE_TIMEOUT, f"no message was received for {limits.idle_timeout_s:g} s", out)
        else:
            self._end_here(Boundary(), State.FLUSHING, out, now)
            self._advance(out, now)
        return out

    def audio_sent(self, size: int, now: float) -> Sequence[Action]:
        """Note that the transport has taken `size` bytes of audio out; return what may follow."""
        out: list[Action] = []
        if self._stream is not None and self._stream.output is not None:
            self._stream.output.sent(size)
            self._play(out, now)
        return out

    def _play(self, out: list[Action], now: float) -> None:
        """Send audio that is due. A client that listens is not idle."""
        stream = self._stream
        if stream is None or stream.output is None:
            return
        if not stream.output.is_idle:
            self._heard = now
        stream.play(out, now)
        self._advance(out, now)

    def held(self, now: float) -> None:
        """Restart the silence time-outs after a pause of reading, which is not the client's fault."""
        self._heard = self._heard_audio = now

    def expel(self, code: ErrorCode, text: str, now: float) -> Sequence[Action]:
        """End the session with this error, which names the range without a result."""
        out: list[Action] = []
        if self.state is not State.CLOSED:
            self._fail(code, text, out)
        return out

    def hangup(self, now: float) -> Sequence[Action]:
        """Handle a disconnected peer: cancel all pending work."""
        out: list[Action] = []
        if self.state is not State.CLOSED:
            self._drop_stream(out)
            self.load.clear()
            self.state = State.CLOSED
        return out

    def relieve(self, now: float) -> Sequence[Action]:
        """Update the used memory; end the session if it exceeds the limit and no pending answer would reduce it."""
        self.load.count()
        return self.expel(*self.load.stuck(), now) if self.load.is_stuck else NOTHING

    def drain(self, deadline_s: float, now: float) -> Sequence[Action]:
        """Tell the client that the server shuts down, and that it may finish by itself within `deadline_s`."""
        return NOTHING if self.state is State.CLOSED else [Emit(Draining(deadline_s))]

    def finish(self, now: float) -> Sequence[Action]:
        """Finish the stream, because the server shuts down."""
        out: list[Action] = []
        end = Boundary(reason=FinishReason.DRAINED, close=True, code=ErrorCode.DRAINING)
        if self.state in (State.NEW, State.IDLE):
            self._close(ErrorCode.DRAINING, out)
        elif self.state is State.STREAMING:
            self._end_here(end, State.FINISHING, out, now)
        elif self.state is not State.CLOSED:
            flushed = self._boundary.flushed if self._boundary else None
            self._boundary = replace(end, flushed=flushed)
            self.state = State.FINISHING
        if self._stream is not None and self._stream.output is not None:
            self._stream.output.hurry()
            self._stream.play(out, now)
        self._advance(out, now)
        return out

    # Steps --------------------------------------------------------------------------------------

    def _take(self, message: Message, out: list[Action], now: float) -> None:
        """Execute the table's step for this message. No step passes a barrier; call `_advance` afterwards."""
        _STEPS[TABLE[self.state][type(message)]](self, message, out, now)

    def _append(self, message: Message, out: list[Action], now: float) -> None:
        stream = self._stream
        assert isinstance(message, Audio)
        assert stream is not None
        if stream.room_bytes < len(message.data):
            most = self.settings.limits.max_stream_s
            self._fail(ErrorCode.STREAM_TOO_LONG, f"the stream is longer than the limit of {most:g} s", out)
        elif stream.audio(message.data, out, now):
            self._check_load(out)

    def _open(self, message: Message, out: list[Action], now: float) -> None:
        assert isinstance(message, Start)
        if (settings := self._begin(message, out)) is not None:
            self._streams += 1
            self._refused_audio = False
            self._heard_audio = now
            self.state = State.STREAMING
            out.append(Emit(settings.started(self.id, message, self.traceparent or message.traceparent)))

    def _begin(self, start: Start, out: list[Action]) -> SessionSettings | None:
        """Make a stream; return its settings, or None if it cannot be served."""
        settings = self.settings if start.mode is None else replace(self.settings, mode=start.mode)
        try:
            vad = checked_vad(start, settings)
        except StreamerError as error:
            self._fail(error.code, error.message, out)
            return None
        self._agreed = start
        self._stream = self.load.stream = Stream(settings, start, vad, self.id, self._streams, self._next_job)
        return settings

    def _set_format(self, message: Message, out: list[Action], now: float) -> None:
        assert isinstance(message, SetFormat)
        assert self._agreed is not None
        self._agreed = replace(self._agreed, format=message.format)
        if self._stream is not None:
            self._begin(self._agreed, out)

    def _reopen(self, message: Message, out: list[Action], now: float) -> None:
        assert self._agreed is not None
        self._open(self._agreed, out, now)
        self._append(message, out, now)

    def _configure(self, message: Message, out: list[Action], now: float) -> None:
        """Change the settings of the running stream; an invalid one is an error and changes nothing."""
        assert isinstance(message, Configure)
        assert self._stream is not None
        try:
            self._agreed = self._stream.configure(message)
        except StreamerError as error:
            out.append(Emit(Failed.from_error(error)))

    def _flush(self, message: Message, out: list[Action], now: float) -> None:
        assert isinstance(message, Flush)
        self._end_here(Boundary(flushed=Flushed(message.id)), State.FLUSHING, out, now)

    def _clear(self, message: Message, out: list[Action], now: float) -> None:
        frames = self._stream.clear(out, now) if self._stream is not None else 0
        out.append(Emit(Cleared(frames)))

    def _stop(self, message: Message, out: list[Action], now: float) -> None:
        assert isinstance(message, Stop | Leave)
        stays = isinstance(message, Stop) and message.keep_open
        end = Boundary(reason=FinishReason.STOPPED, close=not stays)
        self._end_here(end, State.FINISHING, out, now)

    def _restart(self, message: Message, out: list[Action], now: float) -> None:
        assert isinstance(message, Start)
        self._pending.put_first(message)  # it precedes the queued messages
        self._end_here(Boundary(reason=FinishReason.RESTARTED), State.FINISHING, out, now)

    def _wait(self, message: Message, out: list[Action], now: float) -> None:
        assert isinstance(message, Start | Audio | Configure | SetFormat | Flush | Stop | Leave)
        self._pending.put(message)
        self._check_load(out)

    def _leave(self, message: Message, out: list[Action], now: float) -> None:
        if isinstance(message, Stop) and message.keep_open:
            self._refuse(message, out, now)
        else:
            self._close(None, out)

    def _refuse(self, message: Message, out: list[Action], now: float) -> None:
        if isinstance(message, Audio):
            if self._refused_audio:
                return  # reported once: a client that continues to stream would get an error per message
            self._refused_audio = True
        name = type(message).__name__.lower()
        when = "before start" if self.state is State.NEW else "without a running stream"
        text = f"{name} {when}: send start first"
        out.append(Emit(Failed(ErrorCode.BAD_STATE, text)))

    def _ignore(self, message: Message, out: list[Action], now: float) -> None:
        pass

    def _malformed(self, message: Malformed, out: list[Action]) -> None:
        if self.state is State.CLOSED:
            return
        if message.fatal:
            self._fail(message.code, message.message, out)
        else:
            out.append(Emit(Failed(message.code, message.message)))

    # Ends ---------------------------------------------------------------------------------------

    def _end_here(self, boundary: Boundary, state: State, out: list[Action], now: float) -> None:
        """Start a barrier after the audio so far."""
        assert self._stream is not None
        self._boundary, self.state = boundary, state
        self._stream.end_here(boundary.speech_end, out, now)

    def _advance(self, out: list[Action], now: float) -> None:
        """Pass barriers and process queued messages, until a barrier has to wait or no message is left.

        A queued message may start the next barrier; recursion would let a client choose the depth of the stack.
        """
        while self._boundary is None or self._pass_boundary(self._boundary, out, now):
            if not self._pending:
                return
            self._take(self._pending.pop(), out, now)

    def _pass_boundary(self, boundary: Boundary, out: list[Action], now: float) -> bool:
        """Continue after this barrier; return False if scores or results before it are pending."""
        stream = self._stream
        if stream is None or not stream.settled:
            return False
        if boundary.flushed is not None:
            stream.fence(boundary.flushed, out)
            boundary = self._boundary = replace(boundary, flushed=None)
        if boundary.reason is None:
            stream.go_on()
            self.state = State.STREAMING
        elif stream.finished and stream.has_played(out, now):
            self._finish_stream(boundary, out)
        else:
            return False
        self._boundary = None
        return True

    def _finish_stream(self, boundary: Boundary, out: list[Action]) -> None:
        stream = self._stream
        assert stream is not None
        assert boundary.reason is not None
        if extra := stream.partial_frame_bytes():
            text = f"the audio ends with {extra} of the {stream.start.format.frame_bytes} bytes of a frame"
            out.append(Emit(Warned(WarningCode.PARTIAL_FRAME, text)))
        tally = stream.tally
        counts = (stream.received, stream.processed, tally.segments, tally.failed, stream.received_s)
        out.append(Emit(Finished(boundary.reason, *counts)))
        self._drop_stream(out)
        self.state = State.IDLE
        if boundary.close:
            self._close(boundary.code, out)

    def _fail(self, code: ErrorCode, text: str, out: list[Action]) -> None:
        """End the connection with this error, which names the range without a result."""
        start, end = self._stream.unanswered() if self._stream is not None else (None, None)
        after_s = self.settings.retry_after_s if code in RETRY_AFTER else None
        out.append(Emit(Failed(code, text, fatal=True, start=start, end=end, retry_after_s=after_s)))
        self._close(code, out)

    def _close(self, code: ErrorCode | None, out: list[Action]) -> None:
        self._drop_stream(out)
        self.load.clear()
        self._boundary = None
        self._code = code
        self.state = State.CLOSED
        out.append(Close(code))

    def _drop_stream(self, out: list[Action]) -> None:
        if self._stream is not None:
            self._sums = self._with_stream()
            self._next_job = self._stream.next_job
            self._stream.abandon(out)
            out.append(Release(self._stream.number))
            self._stream = self.load.stream = None

    def _check_pending(self, out: list[Action]) -> None:
        """End the session if too many messages are queued, or too many events wait for results."""
        limit = self.settings.limits.max_pending_messages
        if len(self._pending) + (self._stream.fences if self._stream is not None else 0) > limit:
            text = f"more than {limit} messages wait: receive `flushed` or `finished` before sending more"
            self._fail(ErrorCode.RATE_LIMITED, text, out)

    def _check_load(self, out: list[Action]) -> None:
        """End the session if far too much is queued, which does not happen if reading is paused in time."""
        if text := self.load.excess():
            self._fail(ErrorCode.TOO_FAST, text, out)

    def _with_stream(self) -> Summary:
        return self._sums.plus(self._stream) if self._stream is not None else self._sums


_STEPS: Mapping[Step, Callable[[Session, Message, list[Action], float], None]] = {
    Step.OPEN: Session._open,
    Step.REOPEN: Session._reopen,
    Step.APPEND: Session._append,
    Step.CONFIGURE: Session._configure,
    Step.SET_FORMAT: Session._set_format,
    Step.FLUSH: Session._flush,
    Step.CLEAR: Session._clear,
    Step.FINISH: Session._stop,
    Step.RESTART: Session._restart,
    Step.WAIT: Session._wait,
    Step.LEAVE: Session._leave,
    Step.REFUSE: Session._refuse,
    Step.IGNORE: Session._ignore,
}
