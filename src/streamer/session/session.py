"""The core: all that one connection may say and hear, as a machine of plain values. See docs/design/core.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from streamer.errors import RETRY_AFTER, ErrorCode, StreamerError
from streamer.session.actions import Action, Close, Emit, JobId, Outcome, Release
from streamer.session.boundary import Boundary
from streamer.session.checking import checked_vad
from streamer.session.events import Draining, Failed, Finished, FinishReason, Flushed, Warned, WarningCode
from streamer.session.load import Load
from streamer.session.memory import MemoryPool
from streamer.session.messages import Audio, Flush, Leave, Malformed, Message, SetFormat, Start, Stop
from streamer.session.settings import SessionSettings
from streamer.session.state import TABLE, State, Step
from streamer.session.stream import Stream
from streamer.session.summary import Summary

_STREAMING = State.STREAMING

NOTHING: Sequence[Action] = ()
"""What most calls answer; shared, so that a message costs no list."""


class Session:
    """One connection. Inputs answer with actions and never raise for what a client did.

    `now` is monotonic seconds and must not go back. `deadline` says when `tick` is wanted next. Answers to `Score` and
    `Infer` come back through `scored` and `inferred`, once per request, in any order between channels and jobs.
    """

    def __init__(self, settings: SessionSettings, session_id: str, now: float, pool: MemoryPool | None = None) -> None:
        """`pool`: the memory for audio that it shares with other sessions; None for a session by itself."""
        self.settings = settings
        self.id = session_id
        self.traceparent: str | None = None
        """Sent back in `started`; set by whoever traces, else what the client sent."""
        self.state = State.NEW
        """Where it is; changed by its steps alone."""
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

    # What can be asked --------------------------------------------------------------------------

    @property
    def backlog_s(self) -> float:
        """Seconds of audio received and not yet dealt with; past `limits.audio_ahead_s`, stop reading for a while."""
        return self.load.backlog_s

    @property
    def held_bytes(self) -> int:
        """Bytes of memory for audio; past `limits.max_session_bytes`, stop reading for a while."""
        return self.load.held_bytes

    def wanted_bytes(self) -> int:
        """Audio that must still come before anything can be done with it, at most some 32 ms of it; 0 where any word
        counts."""
        return self._stream.wanted_bytes() if self._stream is not None and self.state is _STREAMING else 0

    def arrival(self, position: int) -> float | None:
        """When the running stream's audio up to this sample at the model's rate had come; None where there is none."""
        return self._stream.arrival(position) if self._stream is not None else None

    @property
    def deadline(self) -> float | None:
        """When `tick` is wanted; None for never. Only a call that answers with more than scores can bring it nearer."""
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

    # What comes in ------------------------------------------------------------------------------

    def receive(self, message: Message, now: float) -> Sequence[Action]:
        """The client said something."""
        self._heard = now
        out: list[Action] = []
        if type(message) is Audio:
            self._heard_audio = now
            if self.state is _STREAMING:  # by far the most frequent
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
        """The speech probabilities of the `Score` that is outstanding on this channel, one for each window."""
        if self._stream is None or self.state is State.CLOSED:
            return NOTHING
        out: list[Action] = []
        self._stream.scored(channel, speech, out, now)
        if self._boundary is not None:
            self._advance(out, now)
        return out

    def inferred(self, job: JobId, outcome: Outcome, now: float) -> Sequence[Action]:
        """The model's answer to a job, or one part of it."""
        if self._stream is None or self.state is State.CLOSED:
            return NOTHING
        out: list[Action] = []
        self._stream.inferred(job, outcome, out, now)
        if self._stream.tally.failed_in_a_row >= self.settings.limits.max_model_failures:
            self._fail(ErrorCode.MODEL_ERROR, "the model failed too often in a row", out)
        self._advance(out, now)
        return out

    def tick(self, now: float) -> Sequence[Action]:
        """The deadline may have passed; an early call changes nothing."""
        deadline = self.deadline
        if deadline is None or now < deadline:
            return NOTHING
        out: list[Action] = []
        limits = self.settings.limits
        if self.state is State.NEW:
            self._fail(ErrorCode.START_TIMEOUT, f"no start within {limits.start_timeout_s:g} s", out)
        elif self.state in (State.FLUSHING, State.FINISHING):
            self._heard = now  # the outside is awaited, which bounds itself; the client owes nothing meanwhile
        elif now >= self._heard + limits.idle_timeout_s:
            self._fail(ErrorCode.IDLE_TIMEOUT, f"nothing came for {limits.idle_timeout_s:g} s", out)
        else:
            self._end_here(Boundary(), State.FLUSHING, out, now)
            self._advance(out, now)
        return out

    def held(self, now: float) -> None:
        """The client could not be heard until now (it was not read): its silence was none of its own."""
        self._heard = self._heard_audio = now

    def expel(self, code: ErrorCode, text: str, now: float) -> Sequence[Action]:
        """Whoever conducts the session ends it with this fault; what has no answer yet is named by its range."""
        out: list[Action] = []
        if self.state is not State.CLOSED:
            self._fail(code, text, out)
        return out

    def hangup(self, now: float) -> Sequence[Action]:
        """The peer is gone: whatever is outstanding is not wanted any more."""
        out: list[Action] = []
        if self.state is not State.CLOSED:
            self._drop_stream(out)
            self._pending.clear()
            self.load.count()
            self.state = State.CLOSED
        return out

    def relieve(self, now: float) -> Sequence[Action]:
        """Count the memory, and end the session if it holds too much and no answer would make it less."""
        self.load.count()
        return self.expel(*self.load.stuck(), now) if self.load.is_stuck else NOTHING

    def drain(self, deadline_s: float, now: float) -> Sequence[Action]:
        """The server is going away: tell the client, who may finish by itself within `deadline_s`."""
        if self.state is State.CLOSED:
            return NOTHING
        return [Emit(Draining(deadline_s))]

    def finish(self, now: float) -> Sequence[Action]:
        """End as if stopped, because the server is going away."""
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
        self._advance(out, now)
        return out

    # Steps --------------------------------------------------------------------------------------

    def _take(self, message: Message, out: list[Action], now: float) -> None:
        """Take the step that the table has for this message. No step passes a boundary; call `_advance` afterwards."""
        _STEPS[TABLE[self.state][type(message)]](self, message, out, now)

    def _append(self, message: Message, out: list[Action], now: float) -> None:
        stream = self._stream
        assert isinstance(message, Audio)
        assert stream is not None
        if stream.room_bytes < len(message.data):
            most = self.settings.limits.max_stream_s
            self._fail(ErrorCode.STREAM_TOO_LONG, f"a stream may have {most:g} s of audio", out)
        elif stream.audio(message.data, out, now):
            self._check_load(out)

    def _open(self, message: Message, out: list[Action], now: float) -> None:
        assert isinstance(message, Start)
        if (settings := self._begin(message, out)) is not None:
            self._streams += 1
            self._refused_audio = False
            self._heard_audio = now
            self.state = State.STREAMING
            out.append(Emit(settings.started(self.id, self.traceparent or message.traceparent)))

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

    def _flush(self, message: Message, out: list[Action], now: float) -> None:
        assert isinstance(message, Flush)
        self._end_here(Boundary(flushed=Flushed(message.id)), State.FLUSHING, out, now)

    def _stop(self, message: Message, out: list[Action], now: float) -> None:
        assert isinstance(message, Stop | Leave)
        stays = isinstance(message, Stop) and message.keep_open
        end = Boundary(reason=FinishReason.STOPPED, close=not stays)
        self._end_here(end, State.FINISHING, out, now)

    def _restart(self, message: Message, out: list[Action], now: float) -> None:
        assert isinstance(message, Start)
        self._pending.put_first(message)  # pending messages came after it
        self._end_here(Boundary(reason=FinishReason.RESTARTED), State.FINISHING, out, now)

    def _wait(self, message: Message, out: list[Action], now: float) -> None:
        assert isinstance(message, Start | Audio | SetFormat | Flush | Stop | Leave)
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
                return  # said once: a client that streams on would be sent an error for each message
            self._refused_audio = True
        name = type(message).__name__.lower()
        text = f"{name} before any start" if self.state is State.NEW else f"{name} while no stream is running"
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
        """Put a boundary after the audio so far."""
        assert self._stream is not None
        self._boundary, self.state = boundary, state
        self._stream.end_here(out, now)

    def _advance(self, out: list[Action], now: float) -> None:
        """Pass boundaries and take pending messages, until a boundary has to wait or no message is left.

        This is a loop because a pending message may put the next boundary. Recursion would let a client choose the
        depth of the stack.
        """
        while self._boundary is None or self._pass_boundary(self._boundary, out):
            if not self._pending:
                return
            self._take(self._pending.pop(), out, now)

    def _pass_boundary(self, boundary: Boundary, out: list[Action]) -> bool:
        """Go on after this boundary; return False if scores or results before it are outstanding."""
        stream = self._stream
        if stream is None or not stream.settled:
            return False
        if boundary.flushed is not None:
            stream.fence(boundary.flushed, out)
            boundary = self._boundary = replace(boundary, flushed=None)
        if boundary.reason is None:
            stream.go_on()
            self.state = State.STREAMING
        elif stream.finished:
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
            text = f"{extra} bytes at the end make no whole frame of {stream.start.format.frame_bytes}"
            out.append(Emit(Warned(WarningCode.PARTIAL_FRAME, text)))
        tally = stream.tally
        out.append(Emit(Finished(boundary.reason, stream.received, stream.processed, tally.segments, tally.failed)))
        self._drop_stream(out)
        self.state = State.IDLE
        if boundary.close:
            self._close(boundary.code, out)

    def _fail(self, code: ErrorCode, text: str, out: list[Action]) -> None:
        """The connection ends with this fault; what has no answer yet is named by its range."""
        start, end = self._stream.unanswered() if self._stream is not None else (None, None)
        after_s = self.settings.retry_after_s if code in RETRY_AFTER else None
        out.append(Emit(Failed(code, text, fatal=True, start=start, end=end, retry_after_s=after_s)))
        self._close(code, out)

    def _close(self, code: ErrorCode | None, out: list[Action]) -> None:
        self._drop_stream(out)
        self._pending.clear()
        self.load.count()
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
        """End the session if too many messages wait, to be taken or for the results before them."""
        limit = self.settings.limits.max_pending_messages
        if len(self._pending) + (self._stream.fences if self._stream is not None else 0) > limit:
            text = f"more than {limit} messages wait: receive `flushed` or `finished` before sending more"
            self._fail(ErrorCode.RATE_LIMITED, text, out)

    def _check_load(self, out: list[Action]) -> None:
        """End the session if far too much waits. A client that is not read when it is ahead never comes here."""
        if text := self.load.excess():
            self._fail(ErrorCode.TOO_FAST, text, out)

    def _with_stream(self) -> Summary:
        return self._sums.plus(self._stream) if self._stream is not None else self._sums


_STEPS: Mapping[Step, Callable[[Session, Message, list[Action], float], None]] = {
    Step.OPEN: Session._open,
    Step.REOPEN: Session._reopen,
    Step.APPEND: Session._append,
    Step.SET_FORMAT: Session._set_format,
    Step.FLUSH: Session._flush,
    Step.FINISH: Session._stop,
    Step.RESTART: Session._restart,
    Step.WAIT: Session._wait,
    Step.LEAVE: Session._leave,
    Step.REFUSE: Session._refuse,
    Step.IGNORE: Session._ignore,
}
