"""Wyoming: speech to text for Home Assistant, on a port of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import streamer
from streamer.access.peers import PRIVATE_NETWORKS, Peers
from streamer.clock import timeout
from streamer.dialects.announcement import Announcement
from streamer.dialects.dialect import DialectContext, DialectListener, MountedDialect
from streamer.errors import ConfigError, StreamerError
from streamer.protocols.codec import Reply
from streamer.protocols.wyoming import Wyoming, WyomingProgram
from streamer.protocols.wyoming_wire import EventParser, WyomingEvent, WyomingLimits, encode_event, error_event
from streamer.session.events import Mode
from streamer.session.messages import Malformed
from streamer.transports.tcp import TcpTransport
from streamer.transports.tcp_listener import TcpLimits, TcpListener

MAX_EVENTS_WITHOUT_SESSION = 100
"""Events of a connection that has no session, such as `describe` and `ping`."""
SERVICE = "_wyoming._tcp.local."


@dataclass(slots=True)
class WyomingFraming:
    """The framing of one connection."""

    limits: WyomingLimits
    _parser: EventParser = field(init=False)

    def __post_init__(self) -> None:
        self._parser = EventParser(self.limits)

    @property
    def held_bytes(self) -> int:
        return self._parser.held_bytes

    def feed(self, data: bytes) -> None:
        self._parser.feed(data)

    def next(self) -> WyomingEvent | None:
        return self._parser.next()

    def encode(self, frame: WyomingEvent) -> bytes:
        return encode_event(frame)

    def end(self) -> None:
        """Return nothing: a command is of no use without its client."""

    def farewell(self, error: StreamerError) -> WyomingEvent:
        return error_event(error.code, error.message)


class WyomingServer:
    """Converses on the connections of the port.

    A connection is a session from its first audio on. Before that it may ask what the server is, also when all slots
    are taken, because Home Assistant forgets a server that does not say.
    """

    def __init__(self, context: DialectContext, program: WyomingProgram) -> None:
        self._conductor = context.manager
        self._services = context.manager.services
        self._admission = context.admission
        self._settings = context.session(Mode.SEGMENTED)
        self._program = program

    async def serve(self, transport: TcpTransport[WyomingEvent]) -> float:
        """Converse until the end of the connection; return the seconds of audio that it sent."""
        codec = Wyoming(self._program, max_audio_message_bytes=self._settings.limits.max_audio_message_bytes)
        try:
            if not await self._answer_until_audio(transport, codec):
                return 0.0
            self._admission.check()
            async with self._admission.admit(transport.peer, None) as model:
                summary = await self._conductor.run(
                    transport, codec, self._settings, measure=lambda event: len(encode_event(event)), model=model
                )
                return summary.received_s
        except StreamerError as error:
            self._services.observer.on_refused(transport.name, error.code, transport.peer)
            await transport.refuse(error)
        return 0.0

    async def _answer_until_audio(self, transport: TcpTransport[WyomingEvent], codec: Wyoming) -> bool:
        """Answer events that need no session; return whether one came that does.

        Raises StreamerError for a client that sends too much, or nothing of the protocol.
        """
        for _ in range(MAX_EVENTS_WITHOUT_SESSION):
            try:
                async with timeout(self._services.clock, self._settings.limits.idle_timeout_s):
                    event = await transport.receive()
            except TimeoutError:
                return False
            if event is None:
                return False
            if codec.needs_session(event):
                transport.unread(event)
                return True
            steps = codec.decode(event)
            if isinstance(steps, Malformed):
                raise StreamerError(steps.message, code=steps.code)
            for step in steps if isinstance(steps, list) else ():
                if isinstance(step, Reply):
                    await transport.send(step.frame)
        return False


def mount(context: DialectContext) -> MountedDialect:
    """Return the port of Wyoming. Raises ConfigError if the server has keys and no networks are named."""
    dialects = context.settings.dialects
    if context.door.required and not dialects.wyoming_peers:
        expected = "the networks that need no key, because Wyoming has no authentication; or leave wyoming out"
        raise ConfigError(field="dialects.wyoming_peers", expected=expected, got="nothing, with keys or tokens set")
    model = context.model
    reads_language = "language" in model.known_options
    program = WyomingProgram(model.name, streamer.__version__, dialects.wyoming_languages, reads_language)
    limits = WyomingLimits(payload=context.settings.limits.max_audio_message_bytes)
    listener: DialectListener = TcpListener(
        max(0, dialects.wyoming_port),
        lambda: WyomingFraming(limits),
        WyomingServer(context, program).serve,
        TcpLimits(
            dialects.wyoming_connections,
            dialects.wyoming_connections_per_address or math.inf,
            context.settings.server.close_timeout_s,
            Peers(dialects.wyoming_peers or PRIVATE_NETWORKS, field="dialects.wyoming_peers"),
        ),
        context.manager.services,
        shared=context.shared,
    )
    if dialects.wyoming_zeroconf:
        listener = Announcement(listener, SERVICE)
    return MountedDialect(listeners=(listener,))
