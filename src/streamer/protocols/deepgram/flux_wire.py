"""Wire format of `/v2/listen` (Flux), in Deepgram's own names. Times in seconds."""

from __future__ import annotations

import msgspec


class ForceEndTurn(msgspec.Struct, tag="ForceEndTurn", frozen=True):
    """End the running turn here."""


class FluxCloseStream(msgspec.Struct, tag="CloseStream", frozen=True):
    """Send the last results, then close."""


class FluxKeepAlive(msgspec.Struct, tag="KeepAlive", frozen=True):
    """Reset the idle time-out."""


class Thresholds(msgspec.Struct, frozen=True, omit_defaults=True):
    """Detection of a turn's end; None keeps a value. `eot_timeout_ms`: silence that always ends a turn."""

    eager_eot_threshold: float | None = None
    eot_threshold: float | None = None
    eot_timeout_ms: int | None = None


class FluxConfigure(msgspec.Struct, tag="Configure", frozen=True):
    """Change the stream. A field that is None stays as it is."""

    thresholds: Thresholds | None = None
    keyterms: list[str] | str | None = None
    language_hints: list[str] | None = None
    numerals: bool | None = None


FluxMessage = ForceEndTurn | FluxCloseStream | FluxKeepAlive | FluxConfigure
"""The control messages of a client."""


class FluxConnected(msgspec.Struct, tag="Connected"):
    """The first message. `sequence_id`: of each message of the server, from 0."""

    request_id: str
    sequence_id: int


class FluxWord(msgspec.Struct):
    """A word as it stands in the transcript."""

    word: str
    confidence: float
    start: float
    end: float


class TurnInfo(msgspec.Struct, tag="TurnInfo", omit_defaults=True):
    """The state of a turn. `transcript`, `words`: of the whole turn so far. `trigger`: why it ended."""

    request_id: str
    sequence_id: int
    event: str
    turn_index: int
    audio_window_start: float
    audio_window_end: float
    transcript: str
    words: list[FluxWord]
    end_of_turn_confidence: float
    trigger: str | None = None
    languages: list[str] | None = None


class FluxWarning(msgspec.Struct, tag="Warning"):
    """Something is wrong, and the stream goes on."""

    request_id: str
    sequence_id: int
    code: str
    description: str


class FluxError(msgspec.Struct, tag="Error"):
    """An error that ends the stream."""

    sequence_id: int
    code: str
    description: str


class FluxConfigureSuccess(msgspec.Struct, tag="ConfigureSuccess", omit_defaults=True):
    """A change was applied. All fields are those in effect."""

    request_id: str
    thresholds: Thresholds
    keyterms: list[str]
    sequence_id: int
    language_hints: list[str] | None = None


class FluxConfigureFailure(msgspec.Struct, tag="ConfigureFailure"):
    """A change was refused, and nothing has changed."""

    request_id: str
    sequence_id: int
    code: str
    description: str
