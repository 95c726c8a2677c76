"""One connection: decodes frames, steps the session, executes its actions, sends its events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from time import perf_counter
from typing import Generic, TypeVar

from streamer.access import Lease
from streamer.connection.budget import TOO_MUCH_CONTROL_WORK, WorkBudget, WorkLimits
from streamer.connection.deadline import DeadlineTimer, earliest
from streamer.connection.meter import Meter
from streamer.connection.outbox import OutboxBounds
from streamer.connection.read_gate import ReadGate
from streamer.connection.receive_path import ReceivePath
from streamer.connection.scorer_rows import ScorerRows
from streamer.connection.sender import Sender
from streamer.connection.services import Services
from streamer.connection.token_renewal import renew
from streamer.connection.transport import Transport
from streamer.errors import ErrorCode, StreamerError
from streamer.protocols.codec import Codec, Reply
from streamer.session.actions import Action, Cancel, Close, Emit, Infer, JobId, Outcome, Release, Score
from streamer.session.events import ErrorEvent, Event
from streamer.session.messages import Audio, Auth, KeepAlive, Message, Start
from streamer.session.session import Session
from streamer.session.state import SessionState
from streamer.session.summary import Summary
from streamer.telemetry.observer import SessionInfo, SessionObserver, Subsystem

FrameT = TypeVar("FrameT")
_STREAMING = SessionState.STREAMING

log = logging.getLogger(__name__)


class Connection(Generic[FrameT]):
    """Drives one session over one transport, and implements FrameSink.

    The session is a serial state machine: the reader, the timer, and the answers of scorer and engine enter it on the
    event loop through `_step`. One task reads, one writes; a message without actions wakes neither.
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
        self._clock = services.clock
        self._services = services
        self._bounds = bounds
        self._lease = lease
        self._scorer_rows = ScorerRows(services.scoring, self._on_scores)
        self._input_ended = False
        """The session takes no more input: it has closed, or the peer has disconnected."""
        self._peer_disconnected = False
        self._transport_error: ErrorCode | None = None  # error by which the transport itself refused the peer
        self._timer = DeadlineTimer(services.clock, self._on_timer)
        self._control_frames_seen = transport.control_frames_received
        self._control_messages = 0  # number of messages without audio
        self._later = Meter(services.clock.cpu)
        """Work of earlier messages that was done later, charged with the next message without audio."""
        limits = session.settings.limits
        budget = WorkBudget(WorkLimits(limits.max_control_share), services.addresses.of(transport.peer))
        self._read_gate = ReadGate(services.clock, limits.audio_ahead_s, budget, session.load)
        self._receive_path = ReceivePath(
            session, self._read_gate, services.throttle, self._step, getattr(transport, "spool", None)
        )
        self.busy_s = 0.0
        """CPU seconds spent in the session."""
        self._observer = services.observer.new_session(info, self, self._clock.now())
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
                self._arm_timer()
                writer = tasks.create_task(
                    observer.instrument_task(Subsystem.CLIENT, self._sender.write(self._arm_timer, self._audio_taken))
                )
                # A separate task: waking it does not involve the coroutines that await this connection.
                tasks.create_task(observer.instrument_task(Subsystem.AUDIO_DECODING, self._read(writer)))
        except BaseException:
            self._transport.abort()
            raise
        finally:
            self._cleanup()

    def drain(self, deadline_s: float) -> None:
        self._read_gate.drain()
        self._step(self._session.drain, deadline_s)

    def finish(self) -> None:
        """Finish the stream like a stop: its results are sent, and nothing more is read."""
        self._read_gate.finish()
        self._step(self._session.finish)

    def on_process_paused(self) -> None:
        """Restart the silence time-outs of the client after a pause of the process."""
        self._session.forgive_silence(self._clock.now())

    def close_with_error(self, code: ErrorCode, text: str) -> None:
        """End the session with this error."""
        self._step(self._session.close_with_error, code, text)

    def abort(self) -> None:
        """Disconnect the peer, and cancel its pending work."""
        self._transport.abort()
        self._on_disconnect()

    # In -----------------------------------------------------------------------------------------

    async def _read(self, writer: asyncio.Task[None]) -> None:
        try:
            await self._read_loop()
        except StreamerError as broken:
            self._transport_error = broken.code
        await self._services.throttle.acquire()
        self._on_disconnect()
        if self._peer_disconnected:
            writer.cancel()
            await self._transport.close(None)

    def _on_disconnect(self) -> None:
        """Peer disconnected: discard unread input and cancel pending work."""
        if self._input_ended:
            return
        self._peer_disconnected = True
        self._execute(self._session.on_disconnect)
        self._input_ended = True
        self._after_step()

    async def _read_loop(self) -> None:
        """Read until the peer disconnects. Raises the transport's errors for a peer that violates its protocol."""
        if opening := self._codec.begin():
            self._take_each(opening)
        self._transport.set_sink(self)
        receive, cpu = self._transport.receive, self._clock.cpu
        while (frame := await receive()) is not None:
            controls, started_at = self._control_messages, cpu()
            if not self.feed_frame(frame) or self._is_ahead():
                await self._pause_reading()
            elif controls != self._control_messages:
                await self._charge_control_work(cpu() - started_at + self._later.take())

    @property
    def coalesce_bytes(self) -> int:
        """Implement `FrameSink.coalesce_bytes`."""
        return self._receive_path.coalesce_bytes if self._codec.joins_audio else 0

    def low_watermark_bytes(self) -> int:
        """Implement `FrameSink.low_watermark_bytes`."""
        return self._receive_path.low_watermark_bytes()

    def feed_frame(self, frame: FrameT) -> bool:
        """Pass a frame to the session. Return False if reading should pause, because the peer is too far ahead."""
        if self._input_ended:
            return True  # the close was sent; further input is read so that it arrives
        message = self._codec.decode(frame)
        if type(message) is not Audio:
            return self._take_each(message if isinstance(message, list) else [message])
        more = self._execute(self._receive_path.receive, message)
        # Audio without actions only moves the deadline to a later time; the next ack checks the backlog.
        if not more and self._session.state is _STREAMING and not self._session.load.memory.is_over:
            return True
        self._after_step()
        return not self._is_ahead()

    def _take_each(self, steps: Sequence[Message | Reply[FrameT]]) -> bool:
        """Pass messages to the session, and replies to the client, in their order. Returns as `feed_frame` does."""
        for step in steps:
            if isinstance(step, Reply):
                self._reply(step)
                continue
            if type(step) is not Audio:
                self._control_messages += 1
                if type(step) is Start:
                    self._session.traceparent = self._observer.on_start(step, self._clock.now())
                    if self._receive_path.begin(step):
                        self._transport.set_sink(self)
            self._execute(self._renew_lease if type(step) is Auth else self._receive_path.receive, step)
        self._after_step()
        return not self._is_ahead()

    def _is_ahead(self) -> bool:
        """Return whether reading should pause, because the peer is too far ahead."""
        return not self._input_ended and self._read_gate.is_ahead

    async def _pause_reading(self, owed_s: float = 0.0) -> None:
        """Pause reading, which leaves further bytes to the transport."""
        if not self._read_gate.is_finished:
            self._observer.on_reading_paused(self._clock.now())
        await self._read_gate.wait(owed_s)
        self._session.forgive_silence(self._clock.now())

    async def _charge_control_work(self, spent_s: float) -> None:
        """Charge a message without audio; pause the peer above its budget, and end one that continues."""
        owed_s = self._read_gate.charge(spent_s)
        if owed_s == 0.0 or self._input_ended:
            await asyncio.sleep(0)
        elif self._read_gate.is_exhausted:
            self._step(self._session.close_with_error, ErrorCode.RATE_LIMITED, TOO_MUCH_CONTROL_WORK)
        else:
            await self._pause_reading(owed_s)

    def _step(self, step: Callable[..., Sequence[Action]], *arguments: object) -> None:
        """Run a step of the session for all callers except the reader."""
        self._execute(step, *arguments)
        self._after_step()

    def _execute(self, step: Callable[..., Sequence[Action]], *arguments: object) -> bool:
        """Run one step of the session; return whether any action was not a `Score`. An error ends the session only."""
        if self._input_ended:
            return False
        more = False
        now = self._clock.now()
        started_at = perf_counter()
        try:
            actions = step(*arguments, now)
            self.busy_s += perf_counter() - started_at
            for action in actions:
                if type(action) is Score:  # the most frequent action, which changes nothing else
                    self._scorer_rows.submit(action)
                    continue
                more = True
                self._perform(action, now)
                if self._input_ended:
                    break  # a close is last; actions after a slow peer's end are not executed
        except Exception as error:
            log.exception("session %s failed", self._session.id, extra={"session_id": self._session.id})
            self._services.observer.unexpected_error(Subsystem.AUDIO_DECODING, error)
            self._end_without_session(ErrorEvent(ErrorCode.INTERNAL, "internal server error", fatal=True), now)
            return True
        return more

    def _after_step(self) -> None:
        """Let audio out follow what was written, and update timer and read gate, after a step."""
        while self._sender.audio_sent and not self._input_ended:
            self._execute(self._confirm_audio)
        if (deadline := self._session.deadline) is not None and deadline < self._timer.due:
            self._arm_timer()
        self._resume_reading()

    def _resume_reading(self) -> None:
        """End a session whose memory is full for good; otherwise resume reading if the backlog is small enough."""
        if not self._input_ended and self._session.load.count():
            self._execute(self._session.relieve)
        if self._input_ended:
            self._read_gate.open()
        else:
            self._read_gate.open_if_caught_up()

    # Out ----------------------------------------------------------------------------------------

    def _perform(self, action: Action, now: float) -> None:
        match action:
            case Emit(event):
                self._emit(event, now)
            case Infer(job):
                self._observer.on_job_submitted(job, now)
                self._engine.submit(job, self._on_outcome)
            case Cancel(job):
                self._engine.cancel(self._session.id, job)
            case Release(stream):
                self._engine.release(self._session.id, stream)
            case Close(code):
                self._input_ended = True
                self._outbox.close(code)

    def _on_scores(self, channel: int, speech: Sequence[float]) -> None:
        if self._session.state is not _STREAMING:
            with self._later:
                self._step(self._session.on_scores, channel, speech)
        elif self._execute(self._session.on_scores, channel, speech) or self._read_gate.is_closed:
            self._after_step()

    def _on_outcome(self, job: JobId, outcome: Outcome) -> None:
        if self._input_ended:
            return
        self._observer.on_job_outcome(job, outcome, self._clock.now())
        with self._later if self._session.state is not _STREAMING else nullcontext():
            self._execute(self._session.on_outcome, job, outcome)
        if self._session.has_audio_out:
            self._after_step()
        else:
            self._resume_reading()  # an answer brings no deadline forward

    def _emit(self, event: Event, now: float) -> None:
        if not self._sender.emit(event, now):
            self._overfull(now)

    def _reply(self, reply: Reply[FrameT]) -> None:
        now = self._clock.now()
        if not self._input_ended and not self._sender.reply(reply, now):
            self._overfull(now)

    def _audio_taken(self) -> None:
        self._step(self._confirm_audio)

    def _confirm_audio(self, now: float) -> Sequence[Action]:
        """Give the session credit for the audio that the transport has taken."""
        return self._session.audio_sent(self._sender.take_audio_sent(), now)

    # Time ---------------------------------------------------------------------------------------

    def _arm_timer(self) -> None:
        """Schedule `_on_timer` for the earliest deadline."""
        awaited = () if self._input_ended else (self._session.deadline, self._lease.expires_at if self._lease else None)
        self._timer.bring_forward(earliest(self._outbox.deadline, *awaited))

    def _on_timer(self) -> None:
        now = self._clock.now()
        if now >= earliest(self._outbox.deadline):
            self._on_slow_consumer(f"no event was read for {self._bounds.stall_s:g} s", now)
            return
        if self._read_gate.is_closed:
            self._session.forgive_silence(now)  # reading is paused
        if (received := self._transport.control_frames_received) != self._control_frames_seen:
            self._control_frames_seen = received
            self._step(self._session.receive, KeepAlive())
        if self._lease is not None and now >= self._lease.expires_at:
            self._step(self._session.close_with_error, ErrorCode.TOKEN_EXPIRED, "the token has expired")
        self._step(self._session.on_timer)
        self._arm_timer()

    def _renew_lease(self, message: Auth, now: float) -> Sequence[Action]:
        """Renew the lease with a newer token; an invalid one changes nothing."""
        refusal = renew(self._lease, message.secret, now, self._step)
        return refusal or self._session.receive(message, now)

    # Ends ---------------------------------------------------------------------------------------

    def _overfull(self, now: float) -> None:
        self._on_slow_consumer(f"more than {self._bounds.max_bytes} bytes of events are unread", now)

    def _on_slow_consumer(self, text: str, now: float) -> None:
        """Handle a slow consumer: discard its events, send the error; disconnect if that is not read either."""
        if not self._outbox.is_closed:
            self._outbox.clear()
            self._end_without_session(ErrorEvent(ErrorCode.SLOW_CONSUMER, text, fatal=True), now)
        self._timer.replace(now + self._bounds.close_grace_s, self._transport.abort)

    def _end_without_session(self, why: ErrorEvent, now: float) -> None:
        """End without the session, which has failed or whose peer does not read."""
        self._input_ended = True
        self._release_services()
        if not self._outbox.is_closed:
            self._emit(why, now)
            self._outbox.close(why.code)
        self._read_gate.open()

    def _release_services(self) -> None:
        """Release the rows of the scorer and the jobs of the engine."""
        self._engine.release(self._session.id)
        self._scorer_rows.close()

    def _cleanup(self) -> None:
        self._input_ended = True
        self._timer.cancel()
        self._receive_path.stop()
        self._release_services()
        code = self._outbox.close_code or self._transport_error
        has_ended = self._transport.has_peer_closed and self._codec.ends_with_connection
        left_early = self._peer_disconnected and not has_ended
        self._observer.on_close(self._session.summary, code, peer_disconnected=left_early, now=self._clock.now())
        # They reference this object: thousands that end would wait for the collector.
        self._observer = self._sender.observer = SessionObserver()
        self._transport.set_sink(None)
