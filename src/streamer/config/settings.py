"""The settings tree: keys, defaults, units and bounds."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from streamer.config.models import NamedModels, check_names
from streamer.errors import BadRequest, ConfigError
from streamer.inference.settings import EngineSettings, RaySettings
from streamer.media.formats import Container
from streamer.session.events import Mode
from streamer.session.settings import MEMORY_SHARES, AudioOutSettings, Limits, SessionSettings
from streamer.vad.settings import TurnConfig, VadSection


def _as_list(value: object) -> object:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Milliseconds = Annotated[int, Field(ge=1, le=600_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[int, Field(ge=0, le=1_000_000)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
"""Several values; separated by commas in a variable or a flag."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Addresses, and limits of the server."""

    model: str = "stub"
    """`package.module:name`, `path/to/file.py:name`, or the name of an included model. With several `models`: the name
    of the one for requests that name none (the first of them, unless set)."""
    router: str = ""
    """`package.module:function`, which selects one of several `models` for a request that names none: it gets the
    request (`streamer.protocols.opening.Opening`) and returns a name, or None for the default."""
    host: str = "127.0.0.1"
    """Address to bind."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """TCP port; 0 selects a free one, which is printed."""
    hosts: Names = ()
    """Host names that HTTP requests may use, without a port; `*.example.org` means all names below, `*` any. Empty: any
    on a public address, loopback names (localhost, 127.0.0.1, ::1) on a loopback address."""
    trusted_proxies: Names = ()
    """Addresses or networks of the proxies in front, such as 10.0.0.0/8. Their clients are known by proxy_header, and
    every limit per address is the client's."""
    proxy_header: Literal["forwarded", "x-forwarded-for", "proxy-protocol"] = "forwarded"
    """How trusted proxies tell the address of their client. They must set or append this header themselves. With
    `proxy-protocol` each of their connections must begin with a header of HAProxy's PROXY protocol (not over gRPC)."""
    processes: Annotated[int, Field(ge=1, le=256)] = 1
    """Server processes on the same ports, each with its own model workers; more than one needs Linux. The limits below
    apply to each process."""
    scoring: Literal["loop", "thread"] = "loop"
    """Where speech is scored: on the event loop, or on a thread, which needs a second core and about 10 % more CPU but
    keeps the loop free."""
    page: bool = True
    """Serve the page at `/`, which streams a browser's microphone to the server."""
    max_sessions: Count = 1_000
    """Concurrent sessions; more are refused with `overloaded`."""
    max_sessions_per_address: Share = 0
    """Of these from one IPv4 address or one IPv6 /64; 0: no limit. (Behind a proxy
    all clients have one address, unless it is in trusted_proxies.)"""
    max_sessions_per_subject: Share = 0
    """Of these with one key, or with tokens of one subject; 0: no limit. With a store, on all servers together."""
    max_audio_bytes: Annotated[int, Field(ge=65_536, le=2**40)] = 512 * 1024 * 1024
    """Memory for the audio of all sessions and for incomplete messages. A session may hold an eighth of what is free.
    If less than an eighth is free, new sessions are refused with `overloaded`."""
    max_handshakes: Count = 1_000
    """Concurrent connections that are not sessions yet. Beyond it, the one that has been silent for the longest is
    closed; if all are younger than half a second, the new one is answered with 503."""
    max_handshakes_per_address: Share = 250
    """Of these from one IPv4 address or one IPv6 /64; 0: no limit."""
    max_control_share_per_address: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.1
    """Share of a core for work other than audio, per IPv4 address or IPv6 /64: control messages, pings, HTTP,
    connections without audio. Beyond it, new connections are refused with 429 or `rate_limited`, and connections that
    use more than their part are read more slowly, then closed. 0: no limit. (Behind a proxy
    all clients have one address, unless it is in trusted_proxies.)"""
    handshake_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Time for a connection to become a session and to authenticate. Over gRPC, a connection without a call is closed
    after this time as well."""
    retry_after_s: Seconds = 5.0
    """Retry time in seconds for a client that was refused or closed for overload."""
    outbox_bytes: Annotated[int, Field(ge=1_024, le=2**30)] = 256 * 1024
    """Maximum bytes of unread events of a slow client; interims are dropped first, then the connection is closed."""
    outbox_stall_s: Annotated[float, Field(gt=0, le=3_600)] = 10.0
    """Maximum time for a slow client to take one event."""
    close_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Time for the peer to answer a close."""
    receive_buffer_bytes: Annotated[int, Field(ge=0, le=2**26)] = 128 * 1024
    """The kernel's receive buffer of one connection; 0: the kernel's default."""
    send_buffer_bytes: Annotated[int, Field(ge=0, le=2**26)] = 128 * 1024
    """The kernel's send buffer of one connection; 0: the kernel's default."""
    metrics: Literal["auto", "open", "key"] = "auto"
    """Access to /metrics. `open`: everyone; `key`: clients with a key or token; `auto`: everyone at metrics_address or
    if host is loopback, otherwise clients with a key or token. Without keys it is closed on a public address."""
    metrics_address: str = ""
    """`host:port` of /metrics, /livez and /readyz, without client endpoints; empty: /metrics shares the server's port.
    """


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Authentication. Without keys and secrets, everyone may connect."""

    keys: Names = ()
    """`subject:hash` as printed by `streamer key new`; hashes are not secret."""
    token_secrets_file: str = ""
    """File of the secrets that sign tokens, one per line. The first one signs, all are accepted."""
    max_token_life_s: Annotated[int, Field(ge=1, le=30 * 86_400)] = 3_600
    """Maximum lifetime of a token; longer ones are refused."""
    origins: Names = ()
    """Origins of web pages that may connect, as scheme://host[:port]. Empty: the server's own; `*`: all."""
    anonymous: Annotated[tuple[Literal["health", "info", "reflection"], ...], BeforeValidator(_as_list)] = (
        "health",
        "info",
    )
    """Services that need no key or token even if sessions do: `health` (grpc.health.v1), `info` (/api/v2/info),
    `reflection` (of gRPC). /livez, /readyz and /api/v1/health never need one; for /metrics see server.metrics."""
    first_message: bool = False
    """On v2, accept a credential in a first message `auth` from clients without one in the handshake."""
    refuse_after_upgrade: bool = False
    """Open the WebSocket to refuse a client (4401, 4403) instead of answering 401 or 403, which a web page cannot see.
    """


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """A store that several servers share, for single-use tokens and sessions per subject. Off without a URL."""

    url: str = ""
    """`redis://host:port/0`, or `rediss://` for TLS: Valkey or Redis, 6 or newer."""
    password_file: str = ""
    """File of the password; empty: none, or it is in the URL."""
    prefix: str = "streamer:"
    """Start of every key."""
    timeout_s: Annotated[float, Field(gt=0, le=10)] = 0.25
    """Time-out of a request to the store. Handshakes wait for it."""
    session_ttl_s: Annotated[float, Field(ge=3, le=3_600)] = 30.0
    """Time for which a session counts after its server was last heard of."""
    max_connections: Annotated[int, Field(ge=1, le=1_000)] = 20


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """TLS of the server itself. Off without a certificate."""

    certificate: str = ""
    """PEM file with the certificate chain. It is reloaded when it changes."""
    key: str = ""
    """PEM file of the private key; empty: it is in the certificate's file."""
    check_s: Annotated[float, Field(gt=0, le=86_400)] = 10.0
    """Interval of checking the files."""


@dataclass(frozen=True, slots=True)
class GrpcSettings:
    """The service over gRPC, on its own port at `server.host`."""

    port: Annotated[int, Field(ge=-1, le=65_535)] = 50_051
    """TCP port; 0 disables gRPC, -1 selects a free port, which is printed."""
    reflection: bool = True
    """Serve reflection for clients such as grpcurl; it needs a key or token if sessions do (see access.anonymous)."""
    max_message_bytes: Annotated[int, Field(ge=1_024, le=2**26)] = 256 * 1024
    """Longest audio message, unless limits.max_audio_message_bytes is less. gRPC keeps a message until it is complete,
    so each call reserves this much of server.max_audio_bytes."""
    max_watches_per_address: Share = 20
    """Concurrent grpc.health.v1 Watch calls of one IPv4 address or one IPv6 /64; 0: no limit."""
    keepalive_s: Annotated[float, Field(ge=1, le=86_400)] = 30.0
    """Silence of a connection after which it is pinged."""
    keepalive_timeout_s: Annotated[float, Field(ge=1, le=3_600)] = 10.0
    """Time for a connection to answer a ping, after which it is dropped."""
    min_ping_interval_s: Annotated[float, Field(ge=0, le=3_600)] = 10.0
    """Shortest interval of a client's pings without data; a client that pings more often is disconnected
    (too_many_pings)."""
    max_connections: Count = 1_000
    """Concurrent connections on each address of `server.host`; one more is closed at once."""
    max_streams_per_connection: Count = 250
    """Concurrent calls on one connection; clients queue further ones."""


@dataclass(frozen=True, slots=True)
class DrainSettings:
    """Phases of a drain, in seconds from the signal: lag_s <= soft_s <= hard_s."""

    lag_s: Seconds = 5.0
    """New sessions are accepted until then, while load balancers notice the drain (not on SIGINT)."""
    soft_s: Seconds = 25.0
    """Sessions may end by themselves until then; the others are finished and their results are sent."""
    spread_s: Seconds = 2.0
    """Time over which finishing is spread, so that clients do not all reconnect at once."""
    hard_s: Seconds = 40.0
    """Sessions that still run then are aborted."""

    def __post_init__(self) -> None:
        """Raise ConfigError, naming a time out of order; of two, the one that was changed."""
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
    """Segmentation defaults, for clients that do not set them."""

    interim_interval_ms: Milliseconds = 500
    """Speech between two interims."""
    min_interim_interval_ms: Milliseconds = 200
    """Shortest interval that a client may request."""
    min_piece_ms: Milliseconds = 100
    """Shortest piece of `simple` (except for the last)."""
    max_piece_ms: Milliseconds = 10_000
    """Longest piece of `simple`."""
    stall_timeout_s: Seconds = 2.0
    """Time without audio after which open speech ends; 0: never."""
    lag_warning_s: Seconds = 5.0
    """Delay of a result after the end of its audio above which the client gets a warning."""


@dataclass(frozen=True, slots=True)
class DialectSettings:
    """Protocols of other speech services, for models that return transcripts (those that set `word_times`)."""

    serve: Annotated[
        tuple[
            Literal[
                "auto", "all", "none", "openai", "deepgram", "vosk", "wyoming", "assemblyai", "speechmatics", "calls"
            ],
            ...,
        ],
        BeforeValidator(_as_list),
    ] = ("auto",)
    """Names of dialects; or `all`; or `none`; or `auto`: those on the server's port, if the model returns transcripts.
    """
    unsupported_parameters: Literal["ignore", "refuse"] = "ignore"
    """Parameters of a request that have no effect here: name them in the header X-Streamer-Ignored and in the log, or
    refuse the request with 400."""
    min_silence_ms: Annotated[int, Field(ge=32, le=10_000)] = 300
    """Shortest silence by which a client may end an utterance. Clients of services that hear on past an endpoint ask
    for 25 ms and less, which would cut between words."""
    wyoming_port: Annotated[int, Field(ge=-1, le=65_535)] = 10_300
    """TCP port of Wyoming at `server.host`, if it is served; -1 selects a free one."""
    wyoming_languages: Names = ("en",)
    """Languages of the model as BCP 47 codes. Home Assistant offers it for these only."""
    wyoming_peers: Names = ()
    """Networks that may connect, because Wyoming has no authentication. Empty: loopback, private and link-local
    addresses; with keys or tokens they must be named."""
    wyoming_connections: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Concurrent connections on the port; one more is closed at once."""
    wyoming_connections_per_address: Share = 20
    """Of these from one IPv4 address or one IPv6 /64; 0: no limit."""
    wyoming_zeroconf: bool = False
    """Announce the port by mDNS, so that Home Assistant finds it. Needs the extra `zeroconf`, and an address other than
    loopback."""
    calls_audiosocket_port: Annotated[int, Field(ge=-1, le=65_535)] = 0
    """TCP port of Asterisk's AudioSocket at `server.host`, if `calls` is served; 0: off, -1 selects a free one."""
    calls_peers: Names = ()
    """Networks that may connect to it. Empty: loopback, private and link-local addresses; with keys or tokens they must
    be named."""
    calls_twilio_token_file: str = ""
    """File of the auth token of the Twilio account, by which its requests are checked. With keys or tokens, Twilio is
    served only if it is set."""

    def __post_init__(self) -> None:
        """Raise ConfigError if `none`, `all` or `auto` is not alone."""
        alone = next((word for word in ("none", "all", "auto") if word in self.serve), None)
        if alone is not None and len(self.serve) > 1:
            raise ConfigError(field="dialects.serve", expected=f"{alone} alone", got=", ".join(self.serve))


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Logging."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"
    """`auto`: text on a terminal, JSON lines elsewhere."""


@dataclass(frozen=True, slots=True)
class AudioSettings:
    """Compressed audio that clients may send."""

    formats: Annotated[
        tuple[Literal["aac", "amr", "flac", "g722", "mp3", "mp4", "ogg", "opus", "wav", "webm"], ...],
        BeforeValidator(_as_list),
    ] = ("aac", "amr", "flac", "g722", "mp3", "mp4", "ogg", "opus", "wav", "webm")
    """Containers that are served; `opus` and `g722` come without one. Those left out cannot be reached by any input."""
    libopus: str = ""
    """Path of the library that decodes Opus. Empty for the system's, or else PyAV's or that of opuslib_next."""


class Settings(BaseModel):
    """All settings in two levels: section and key. `load` reads them from file, environment and flags."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    server: ServerSettings = ServerSettings()
    grpc: GrpcSettings = GrpcSettings()
    model: dict[str, Any] = Field(default_factory=dict)
    """The model's own parameters, and its attributes (`workers`, `executor`, `max_batch_size`, ...)."""
    models: NamedModels = Field(default_factory=dict)
    """Several models in one server, in place of `server.model` and `[model]`: a section `[models.NAME]` for each."""
    access: AccessSettings = AccessSettings()
    store: StoreSettings = StoreSettings()
    tls: TlsSettings = TlsSettings()
    engine: EngineSettings = EngineSettings()
    ray: RaySettings = RaySettings()
    vad: VadSection = VadSection()
    turn: TurnConfig = TurnConfig()
    session: SessionSection = SessionSection()
    audio: AudioSettings = AudioSettings()
    dialects: DialectSettings = DialectSettings()
    limits: Limits = Limits()
    audio_out: AudioOutSettings = AudioOutSettings()
    drain: DrainSettings = DrainSettings()
    log: LogSettings = LogSettings()

    def model_post_init(self, context: object) -> None:
        """Check what one section asks of another. Raises BadRequest."""
        min_bytes = (MEMORY_SHARES + 1) * self.limits.max_session_bytes
        if self.server.max_audio_bytes < min_bytes:
            raise BadRequest(
                field="server.max_audio_bytes",
                expected=f"at least {MEMORY_SHARES + 1} times limits.max_session_bytes ({min_bytes})",
                got=self.server.max_audio_bytes,
            )
        if self.server.router and not self.models:
            raise BadRequest(field="server.router", expected="several models ([models.NAME])", got=self.server.router)
        if not self.models:
            return
        check_names(self.models, self.server.model, ServerSettings().model)
        if self.model:
            key = min(self.model)
            raise BadRequest(field=f"model.{key}", expected="it in a section [models.NAME]", got=self.model[key])
        for name, section in self.models.items():
            section.engine_settings(name, self.engine)

    @property
    def default_model(self) -> str:
        """Name of the model for requests that name none, if there are several."""
        return self.server.model if self.server.model in self.models else next(iter(self.models), "")

    def for_grpc(self) -> Limits:
        """Return the limits of a stream over gRPC."""
        max_bytes = min(self.limits.max_audio_message_bytes, self.grpc.max_message_bytes)
        return replace(self.limits, max_audio_message_bytes=max_bytes)

    def for_session(
        self, mode: Mode, *, model: str, sample_rate: int, stateful: bool, max_inflight: int
    ) -> SessionSettings:
        """Return the settings of the sessions of one endpoint. `sample_rate` in Hz: of the model."""
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
            audio_out=self.audio_out,
            containers=frozenset(map(Container, self.audio.formats)),
            libopus=self.audio.libopus,
            limits=self.limits,
        )
