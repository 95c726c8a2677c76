"""The settings tree: what can be set, its default, its unit, its bounds."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from streamer.errors import ConfigError
from streamer.inference.settings import EngineSettings
from streamer.session.events import Mode
from streamer.session.settings import Limits, SessionSettings
from streamer.vad.settings import TurnConfig, VadSection


def _listed(value: object) -> object:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Milliseconds = Annotated[int, Field(ge=1, le=600_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[int, Field(ge=0, le=1_000_000)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""Several words; in a variable or a flag they are separated by commas."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What is served where, and how much the server takes on."""

    model: str = "stub"
    """`package.module:name`, `path/to/file.py:name`, or the name of a model that comes with Streamer."""
    host: str = "127.0.0.1"
    """Address to bind."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """TCP port; 0 takes a free one and says which."""
    hosts: Names = ()
    """Names that HTTP requests may ask for in `Host`, without a port; `*.example.org` is every name below, `*` any.
    Empty: any on a public address, loopback names (localhost, 127.0.0.1, ::1) on a loopback address."""
    processes: Annotated[int, Field(ge=1, le=256)] = 1
    """Serving processes on the same ports, each with model workers of its own; more than one needs Linux. What is
    bounded below is bounded in each of them."""
    scoring: Literal["loop", "thread"] = "loop"
    """Where speech is scored: on the event loop, or on a thread beside it, which takes a tenth more CPU and needs a
    second core, but leaves the loop to the clients."""
    page: bool = True
    """Serve the page at `/`, where a browser's microphone speaks to the server."""
    max_sessions: Count = 1_000
    """Sessions at a time; more are refused with `overloaded`."""
    max_sessions_per_address: Share = 0
    """Of these from one IPv4 address or one IPv6 /64; 0: no bound of its own (behind a proxy all come from one)."""
    max_sessions_per_subject: Share = 0
    """Of these with one key, or with tokens of one subject; 0: no bound of its own."""
    max_handshakes: Count = 1_000
    """Connections at a time that are not sessions yet. For one more, the one that has been silent for the longest gives
    way; if none has for half a second, the new one is answered with 503."""
    max_handshakes_per_address: Share = 250
    """Of these from one IPv4 address or one IPv6 /64; 0: no bound of its own."""
    handshake_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How long a connection may take to become a session, and to say who it is. Over gRPC, a connection without a call
    is closed after that time, too."""
    retry_after_s: Seconds = 5.0
    """Seconds that a client is told to wait which was refused, or ended, for load."""
    outbox_bytes: Annotated[int, Field(ge=1_024, le=2**30)] = 256 * 1024
    """Bytes of events that may wait for one slow reader; interims go first, then the connection."""
    outbox_stall_s: Annotated[float, Field(gt=0, le=3_600)] = 10.0
    """How long a reader may take nothing while events wait for it."""
    close_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How long the peer may take to answer a close."""
    receive_buffer_bytes: Annotated[int, Field(ge=0, le=2**26)] = 128 * 1024
    """The kernel's buffer for what is not read yet of one connection; 0: the kernel decides."""
    send_buffer_bytes: Annotated[int, Field(ge=0, le=2**26)] = 128 * 1024
    """The kernel's buffer for what one connection has not taken yet; 0: the kernel decides."""
    metrics: Literal["auto", "open", "key"] = "auto"
    """Who may read /metrics: `open`, everybody; `key`, whoever has a key or token. `auto`: everybody at
    metrics_address or if host is loopback; else whoever has a key or token, and nobody if the server knows none."""
    metrics_address: str = ""
    """`host:port` where /metrics answers, and with it /livez and /readyz, but no client; empty: beside everything else.
    """


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may connect. Without keys and secrets everybody may."""

    keys: Names = ()
    """`subject:hash` as `streamer key new` prints it; hashes are no secrets."""
    token_secrets_file: str = ""
    """File of the secrets that tokens are signed with, one a line; the first one signs, all are accepted."""
    max_token_life_s: Annotated[int, Field(ge=1, le=30 * 86_400)] = 3_600
    """A token made for longer is refused."""
    origins: Names = ()
    """Web pages that may connect, as scheme://host[:port]. Empty: those of the server itself; `*`: all."""
    anonymous: Annotated[tuple[Literal["health", "info", "reflection"], ...], BeforeValidator(_listed)] = (
        "health",
        "info",
    )
    """What needs no key or token although sessions do: `health` (grpc.health.v1), `info` (/api/v2/info), `reflection`
    (of gRPC). /livez, /readyz and /api/v1/health never need one; for /metrics see server.metrics."""
    first_message: bool = False
    """Over v2, who shows nothing in the handshake may say it in a first message `auth`."""
    refuse_after_upgrade: bool = False
    """Open the WebSocket to say no (4401, 4403) instead of answering 401, 403, which a browser's page cannot see."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Encryption by the server itself. Off without a certificate."""

    certificate: str = ""
    """PEM file, with the chain. It is read again when it changes."""
    key: str = ""
    """PEM file of the private key; empty: it is in the certificate's file."""
    check_s: Annotated[float, Field(gt=0, le=86_400)] = 10.0
    """How often the files are looked at."""


@dataclass(frozen=True, slots=True)
class GrpcSettings:
    """The same service over gRPC, on a port of its own at `server.host`."""

    port: Annotated[int, Field(ge=-1, le=65_535)] = 50_051
    """TCP port; 0 turns gRPC off, -1 takes a free port and says which."""
    reflection: bool = True
    """Clients such as grpcurl may ask what is served; with a key or token, if sessions need one (access.anonymous)."""
    max_watches_per_address: Share = 20
    """Calls of grpc.health.v1 Watch of one IPv4 address or one IPv6 /64 at a time; 0: no bound of its own."""
    keepalive_s: Annotated[float, Field(ge=1, le=86_400)] = 30.0
    """A connection on which nothing came for so long is pinged."""
    keepalive_timeout_s: Annotated[float, Field(ge=1, le=3_600)] = 10.0
    """A connection that does not answer a ping for so long is dropped."""
    min_ping_interval_s: Annotated[float, Field(ge=0, le=3_600)] = 10.0
    """A client that pings more often, with nothing to say, is sent away (too_many_pings)."""
    max_connections: Count = 1_000
    """Connections at a time, on each address of `server.host`; one more is closed at once."""
    max_streams_per_connection: Count = 250
    """Calls at a time on one connection; clients keep further ones waiting until one has ended."""


@dataclass(frozen=True, slots=True)
class DrainSettings:
    """Times between SIGTERM and the end, in seconds from the signal: lag_s <= soft_s <= hard_s."""

    lag_s: Seconds = 5.0
    """New sessions are still taken for so long, while load balancers notice (not on SIGINT)."""
    soft_s: Seconds = 25.0
    """Until then sessions may end by themselves; then each is finished and its results are sent."""
    spread_s: Seconds = 2.0
    """The finishing is spread over so long, so that clients do not all come back at once."""
    hard_s: Seconds = 40.0
    """What still runs then is aborted."""

    def __post_init__(self) -> None:
        """Raises ConfigError naming a time that is not in order; of two, the one that is no default."""
        defaults = {field.name: field.default for field in fields(self)}
        for early, late in pairwise(("lag_s", "soft_s", "hard_s")):
            before, after = getattr(self, early), getattr(self, late)
            if before <= after:
                continue
            if before == defaults[early]:
                raise ConfigError(field=f"drain.{late}", expected=f"at least drain.{early} ({before:g})", got=after)
            raise ConfigError(field=f"drain.{early}", expected=f"at most drain.{late} ({after:g})", got=before)


@dataclass(frozen=True, slots=True)
class SessionSection:
    """How streams are cut where their clients do not say."""

    interim_interval_ms: Milliseconds = 500
    """Speech between two interims, where the client names no interval."""
    min_interim_interval_ms: Milliseconds = 200
    """The shortest interval a client may ask for."""
    min_piece_ms: Milliseconds = 100
    """The shortest piece of `simple` (but for the last)."""
    max_piece_ms: Milliseconds = 10_000
    """The longest piece of `simple`."""
    stall_timeout_s: Seconds = 2.0
    """Open speech ends when no audio has come for so long; 0: never."""
    lag_warning_s: Seconds = 5.0
    """A result that comes so long after its audio was complete makes a warning."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"
    """`auto`: text on a terminal, JSON lines elsewhere."""


class Settings(BaseModel):
    """All settings, two levels: section and key. `load` fills it from file, environment and flags."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    server: ServerSettings = ServerSettings()
    grpc: GrpcSettings = GrpcSettings()
    model: dict[str, Any] = Field(default_factory=dict)
    """The model's own parameters, and its numbers (`workers`, `executor`, `max_batch_size`, ...)."""
    access: AccessSettings = AccessSettings()
    tls: TlsSettings = TlsSettings()
    engine: EngineSettings = EngineSettings()
    vad: VadSection = VadSection()
    turn: TurnConfig = TurnConfig()
    session: SessionSection = SessionSection()
    limits: Limits = Limits()
    drain: DrainSettings = DrainSettings()
    log: LogSettings = LogSettings()

    def for_session(
        self, mode: Mode, *, model: str, sample_rate: int, stateful: bool, max_inflight: int
    ) -> SessionSettings:
        """What a session of one endpoint is built from. `sample_rate` in Hz is the model's."""
        cut = self.session
        return SessionSettings(
            mode=mode,
            model=model,
            model_sample_rate=sample_rate,
            stateful=stateful,
            max_inflight=max_inflight,
            vad=self.vad,
            interim_interval_ms=cut.interim_interval_ms,
            min_interim_interval_ms=cut.min_interim_interval_ms,
            min_piece_ms=cut.min_piece_ms,
            max_piece_ms=cut.max_piece_ms,
            stall_timeout_s=cut.stall_timeout_s,
            lag_warning_s=cut.lag_warning_s,
            retry_after_s=self.server.retry_after_s,
            limits=self.limits,
        )
