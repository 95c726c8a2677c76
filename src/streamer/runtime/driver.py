"""The driver of one connection: decodes frames, steps the session, executes its actions, sends its events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from time import perf_counter
from typing import Generic, TypeVar

from streamer.access import Lease
from streamer.errors import ErrorCode, StreamerError
from streamer.protocols.codec import Codec, Reply
from streamer.runtime.budget import TOO_MUCH, WorkBudget, WorkLimits
from streamer.runtime.deadline import DeadlineTimer, earliest
from streamer.runtime.inlet import Inlet
from streamer.runtime.meter import Meter
from streamer.runtime.outbox import OutboxBounds
from streamer.runtime.read_gate import ReadGate
from streamer.runtime.renewal import renew
from streamer.runtime.sender import Sender
from streamer.runtime.services import Services
from streamer.runtime.transport import Transport
from streamer.session.actions import Action, Cancel, Close, Emit, Infer, JobId, Outcome, Release, Score
from streamer.session.events import Event, Failed
from streamer.session.messages import Audio, Auth, KeepAlive, Message, Start
from streamer.session.session import Session
from streamer.session.state import State
from streamer.session.summary import Summary
from streamer.telemetry.observer import SessionInfo, SessionObserver, Subsystem
from streamer.vad.scorer import Row

FrameT = TypeVar("FrameT")
_STREAMING = State.STREAMING

log = logging.getLogger(__name__)


class Connection(Generic[FrameT]):
    """Drives one session over one transport, and implements Ear.

    The session is a serial state machine: the reader, the timer, and the answers of scorer and engine enter it on the
    event loop through `_enter`. One task reads, one writes; a message without actions wakes neither.
    """

    def __init__(
        self,
        session: Session,
        transport: Transport[FrameT],
        codec: Codec[FrameT],
        services: Services,
        info: SessionInfo,
        *,
        bounds: OutboxBounds,
        measure: Callable[[FrameT], int],
        lease: Lease | None = None,
    ) -> None:
        self._session = session
        self._transport = transport
        self._codec = codec
        self._engine = services.engine
        self._scoring = services.scoring
        self._clock = services.clock
        self._services = services
        self._bounds = bounds
        self._lease = lease
        self._rows: dict[int, Row] = {}
        self._over = False
        """The session takes no more input: it has closed, or the peer has disconnected."""
        self._gone = False
        self._fault: ErrorCode | None = None  # error by which the transport itself refused the peer
        self._timer = DeadlineTimer(services.clock, self._fired)
        self._signs = transport.signs
        self._controls = 0  # number of messages without audio
        self._later = Meter(services.clock.cpu)
        """Work of earlier messages that was done later, charged with the next message without audio."""
        limits = session.settings.limits
        budget = WorkBudget(WorkLimits(limits.max_control_share), services.addresses.of(transport.peer))
        self._gate = ReadGate(services.clock, limits.audio_ahead_s, budget, session.load)
        self._inlet = Inlet(session, self._gate, services.turns, self._enter, getattr(transport, "spool", None))
        self.busy_s = 0.0
        """CPU seconds spent in the session."""
        self._observer = services.observer.session(info, self, self._clock.now())
        self._sender = Sender(transport, codec, bounds, measure, services.clock, self._observer)
        self._outbox = self._sender.outbox

    @property
    def summary(self) -> Summary:
        return self._session.summary

    @property
    def backlog_s(self) -> float:
        return self._session.backlog_s

    @property
    def held_bytes(self) -> int:
        return self._session.held_bytes

    def arrival(self, position: int) -> float | None:
        return self._session.arrival(position)

    async def run(self) -> None:
        """Run until the end. Cancelling it frees everything immediately."""
        observer = self._services.observer
        try:
            async with asyncio.TaskGroup() as tasks:
                self._arm()
                writer = tasks.create_task(
                    observer.task(Subsystem.CLIENT, self._sender.write(self._arm, self._audio_taken))
                )
                # A separate task: waking it does not involve the coroutines that await this connection.
                tasks.create_task(observer.task(Subsystem.AUDIO_DECODING, self._read(writer)))
        except BaseException:
            self._transport.abort()
            raise
        finally:
            self._let_go()

    def drain(self, deadline_s: float) -> None:
        self._gate.drain()
        self._enter(self._session.drain, deadline_s)

    def finish(self) -> None:
        """Finish the stream like a stop: its results are sent, and nothing more is read."""
        self._gate.finish()
        self._enter(self._session.finish)

    def paused(self) -> None:
        """Restart the silence time-outs of the client after a pause of the process."""
        self._session.held(self._clock.now())

    def expel(self, code: ErrorCode, text: str) -> None:
        """End the session with this error."""
        self._enter(self._session.expel, code, text)

    def abort(self) -> None:
        """Disconnect the peer, and cancel its pending work."""
        self._transport.abort()
        self._hang_up()

    # In -----------------------------------------------------------------------------------------

    async def _read(self, writer: asyncio.Task[None]) -> None:
        try:
            await self._hear()
        except StreamerError as broken:
            self._fault = broken.code
        await self._services.turns.take()
        self._hang_up()
        if self._gone:
            writer.cancel()
            await self._transport.close(None)

    def _hang_up(self) -> None:
        """Peer disconnected: discard unread input and cancel pending work."""
        if self._over:
            return
        self._gone = True
        self._apply(self._session.hangup)
        self._over = True
        self._settle()

    async def _hear(self) -> None:
        """Read until the peer disconnects. Raises the transport's errors for a peer that violates its protocol."""
        if opening := self._codec.begin():
            self._take_each(opening)
        self._transport.hand_over(self)
        receive, cpu = self._transport.receive, self._clock.cpu
        while (frame := await receive()) is not None:
            controls, began = self._controls, cpu()
            if not self.take(frame) or self._is_ahead():
                await self._hold()
            elif controls != self._controls:
                await self._pay(cpu() - began + self._later.take())

    @property
    def joined(self) -> int:
        """Implement `Ear.joined`."""
        return self._inlet.joined if self._codec.joins_audio else 0

    def wanted(self) -> int:
        """Implement `Ear.wanted`."""
        return self._inlet.wanted_bytes()

    def take(self, frame: FrameT) -> bool:
        """Pass a frame to the session. Return False if reading should pause, because the peer is too far ahead."""
        if self._over:
            return True  # the close was sent; further input is read so that it arrives
        message = self._codec.decode(frame)
        if type(message) is not Audio:
            return self._take_each(message if isinstance(message, list) else [message])
        more = self._apply(self._inlet.receive, message)
        # Audio without actions only moves the deadline to a later time; the next ack checks the backlog.
        if not more and self._session.state is _STREAMING and not self._session.load.memory.is_over:
            return True
        self._settle()
        return not self._is_ahead()

    def _take_each(self, steps: Sequence[Message | Reply[FrameT]]) -> bool:
        """Pass messages to the session, and replies to the client, in their order. Returns as `take` does."""
        for step in steps:
            if isinstance(step, Reply):
                self._reply(step)
                continue
            if type(step) is not Audio:
                self._controls += 1
                if type(step) is Start:
                    self._session.traceparent = self._observer.starting(step, self._clock.now())
                    if self._inlet.begin(step):
                        self._transport.hand_over(self)
            self._apply(self._renew if type(step) is Auth else self._inlet.receive, step)
        self._settle()
        return not self._is_ahead()

    def _is_ahead(self) -> bool:
        """Return whether reading should pause, because the peer is too far ahead."""
        return not self._over and self._gate.is_ahead

    async def _hold(self, owed_s: float = 0.0) -> None:
        """Pause reading, which leaves further bytes to the transport."""
        if not self._gate.is_finished:
            self._observer.held(self._clock.now())
        await self._gate.wait(owed_s)
        self._session.held(self._clock.now())

    async def _pay(self, spent_s: float) -> None:
        """Charge a message without audio; pause the peer above its budget, and end one that continues."""
        owed_s = self._gate.charge(spent_s)
        if owed_s == 0.0 or self._over:
            await asyncio.sleep(0)
        elif self._gate.is_exhausted:
            self._enter(self._session.expel, ErrorCode.RATE_LIMITED, TOO_MUCH)
        else:
            await self._hold(owed_s)

    def _enter(self, step: Callable[..., Sequence[Action]], *arguments: object) -> None:
        """Run a step of the session for all callers except the reader."""
        self._apply(step, *arguments)
        self._settle()

    def _apply(self, step: Callable[..., Sequence[Action]], *arguments: object) -> bool:
        """Run one step of the session; return whether any action was not a `Score`. An error ends the session only."""
        if self._over:
            return False
        more = False
        now = self._clock.now()
        began = perf_counter()
        try:
            actions = step(*arguments, now)
            self.busy_s += perf_counter() - began
            for action in actions:
                if type(action) is Score:  # the most frequent action, which changes nothing else
                    self._score(action)
                    continue
                more = True
                self._perform(action, now)
                if self._over:
                    break  # a close is last; actions after a slow peer's end are not executed
        except Exception as error:
            log.exception("session %s failed", self._session.id, extra={"session_id": self._session.id})
            self._services.observer.broken(Subsystem.AUDIO_DECODING, error)
            self._abandon(Failed(ErrorCode.INTERNAL, "internal server error", fatal=True), now)
            return True
        return more

    def _settle(self) -> None:
        """Let audio out follow what was written, and update timer and read gate, after a step."""
        while self._sender.audio_sent and not self._over:
            self._apply(self._confirm_audio)
        if (deadline := self._session.deadline) is not None and deadline < self._timer.due:
            self._arm()
        self._let_read()

    def _let_read(self) -> None:
        """End a session whose memory is full for good; otherwise resume reading if the backlog is small enough."""
        if not self._over and self._session.load.count():
            self._apply(self._session.relieve)
        if self._over:
            self._gate.open()
        else:
            self._gate.look()

    # Out ----------------------------------------------------------------------------------------

    def _perform(self, action: Action, now: float) -> None:
        match action:
            case Emit(event):
                self._emit(event, now)
            case Infer(job):
                self._observer.asked(job, now)
                self._engine.submit(job, self._inferred)
            case Cancel(job):
                self._engine.cancel(self._session.id, job)
            case Release(stream):
                self._engine.release(self._session.id, stream)
            case Close(code):
                self._over = True
                self._outbox.close(code)

    def _score(self, score: Score) -> None:
        channel = score.channel
        row = self._rows.get(channel)
        if row is None:
            row = self._rows[channel] = self._scoring.open(partial(self._scored, channel))
        elif score.fresh:
            self._scoring.reset(row)
        self._scoring.submit(row, score.samples)

    def _scored(self, channel: int, speech: Sequence[float]) -> None:
        if self._session.state is not _STREAMING:
            with self._later:
                self._enter(self._session.scored, channel, speech)
        elif self._apply(self._session.scored, channel, speech) or self._gate.is_closed:
            self._settle()

    def _inferred(self, job: JobId, outcome: Outcome) -> None:
        if self._over:
            return
        self._observer.answered(job, outcome, self._clock.now())
        with self._later if self._session.state is not _STREAMING else nullcontext():
            self._apply(self._session.inferred, job, outcome)
        if self._session.has_audio_out:
            self._settle()
        else:
            self._let_read()  # an answer brings no deadline forward

    def _emit(self, event: Event, now: float) -> None:
        if not self._sender.emit(event, now):
            self._overfull(now)

    def _reply(self, reply: Reply[FrameT]) -> None:
        now = self._clock.now()
        if not self._over and not self._sender.reply(reply, now):
            self._overfull(now)

    def _audio_taken(self) -> None:
        self._enter(self._confirm_audio)

    def _confirm_audio(self, now: float) -> Sequence[Action]:
        """Give the session credit for the audio that the transport has taken."""
        return self._session.audio_sent(self._sender.take_audio_sent(), now)

    # Time ---------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Schedule `_fired` for the earliest deadline."""
        awaited = () if self._over else (self._session.deadline, self._lease.until if self._lease else None)
        self._timer.bring_forward(earliest(self._outbox.deadline, *awaited))

    def _fired(self) -> None:
        now = self._clock.now()
        if now >= earliest(self._outbox.deadline):
            self._slow(f"no event was read for {self._bounds.stall_s:g} s", now)
            return
        if self._gate.is_closed:
            self._session.held(now)  # reading is paused
        if (signs := self._transport.signs) != self._signs:
            self._signs = signs
            self._enter(self._session.receive, KeepAlive())
        if self._lease is not None and now >= self._lease.until:
            self._enter(self._session.expel, ErrorCode.TOKEN_EXPIRED, "the token has expired")
        self._enter(self._session.tick)
        self._arm()

    def _renew(self, message: Auth, now: float) -> Sequence[Action]:
        """Renew the lease with a newer token; an invalid one changes nothing."""
        refusal = renew(self._lease, message.secret, now, self._enter)
        return refusal or self._session.receive(message, now)

    # Ends ---------------------------------------------------------------------------------------

    def _overfull(self, now: float) -> None:
        self._slow(f"more than {self._bounds.bytes} bytes of events are unread", now)

    def _slow(self, text: str, now: float) -> None:
        """Handle a slow consumer: discard its events, send the error; disconnect if that is not read either."""
        if not self._outbox.closed:
            self._outbox.clear()
            self._abandon(Failed(ErrorCode.SLOW_CONSUMER, text, fatal=True), now)
        self._timer.replace(now + self._bounds.last_words_s, self._transport.abort)

    def _abandon(self, why: Failed, now: float) -> None:
        """End without the session, which has failed or whose peer does not read."""
        self._over = True
        self._release()
        if not self._outbox.closed:
            self._emit(why, now)
            self._outbox.close(why.code)
        self._gate.open()

    def _release(self) -> None:
        """Release the rows of the scorer and the jobs of the engine."""
        self._engine.release(self._session.id)
        for row in self._rows.values():
            self._scoring.close(row)
        self._rows.clear()

    def _let_go(self) -> None:
        self._over = True
        self._timer.cancel()
        self._inlet.stop()
        self._release()
        code = self._outbox.code or self._fault
        self._observer.closed(self._session.summary, code, gone=self._gone, now=self._clock.now())
        # They reference this object: thousands that end would wait for the collector.
        self._observer = self._sender.observer = SessionObserver()
        self._transport.hand_over(None)
