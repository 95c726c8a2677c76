"""One log record for each session, at its end, and for each refused one."""

from __future__ import annotations

import logging

from streamer.errors import ErrorCode
from streamer.session.events import ErrorEvent, WarningEvent
from streamer.session.messages import Start
from streamer.session.summary import Summary
from streamer.telemetry.logs import LogFields
from streamer.telemetry.metrics import GONE, STOPPED
from streamer.telemetry.observer import SessionInfo, SessionView
from streamer.telemetry.session_recorder import SegmentTimeline, SessionSink

log = logging.getLogger("streamer.session")


class SessionFields(LogFields, frozen=True, omit_defaults=True, kw_only=True):
    """Totals of a session: seconds, real-time factors, latencies of finals. No audio, text or token."""

    transport: str
    dialect: str
    mode: str
    model: str | None = None
    """Name of one of several models; left out on a server with one."""
    peer: str
    reason: str
    duration_s: float
    received_s: float
    answered_s: float
    """Seconds of audio in finals: the speech, in segmented mode."""
    streams: int
    segments: int
    interims: int
    failed: int
    interims_dropped: int
    rtf_decoding: float | None = None
    rtf_inference: float | None = None
    first_result_s: float | None = None
    final_latency_mean_s: float | None = None
    final_latency_max_s: float | None = None
    bad_packets: int = 0
    """Packets of compressed audio that could not be decoded, and became silence."""
    suppressed: int = 0
    """Number of times that reading from the client was paused."""
    errors: tuple[str, ...] = ()
    """Codes of errors sent to the client, each once, in the order of their first occurrence."""
    warnings: tuple[str, ...] = ()
    """Codes of warnings, in the same way."""


class RefusalFields(LogFields, frozen=True, kw_only=True):
    """A refused session."""

    transport: str
    code: str
    peer: str

    @property
    def kind(self) -> str:
        """Return the code: refusals of one code are limited together."""
        return self.code


def log_refusal(transport: str, code: ErrorCode, peer: str) -> None:
    """Log a refused session."""
    log.info("session refused", extra={"facts": RefusalFields(transport=transport, code=code, peer=peer)})


class SessionLog(SessionSink):
    """Collects the totals of one session."""

    def __init__(self, info: SessionInfo, view: SessionView, now: float) -> None:
        self._info = info
        self._view = view
        self._mode = info.mode
        self._born = now
        self._inference_s = self._inferred_s = 0.0
        self._first_result_s: float | None = None
        self._latencies = 0
        self._latency_sum_s = self._latency_max_s = 0.0
        self._pause_count = 0
        self._errors: dict[str, None] = {}  # as ordered sets
        self._warnings: dict[str, None] = {}

    def on_start(self, start: Start, now: float) -> str | None:
        self._mode = start.mode or self._info.mode
        return None

    def on_first_result(self, latency_s: float) -> None:
        if self._first_result_s is None:
            self._first_result_s = latency_s

    def on_segment_done(self, timeline: SegmentTimeline) -> None:
        if timeline.written_at is None or timeline.audio_ended_at is None:
            return
        latency_s = timeline.written_at - timeline.audio_ended_at
        self._latencies += 1
        self._latency_sum_s += latency_s
        self._latency_max_s = max(self._latency_max_s, latency_s)
        if timeline.inference_started_at is not None and timeline.inference_finished_at is not None:
            self._inference_s += timeline.inference_finished_at - timeline.inference_started_at
            self._inferred_s += timeline.length_s

    def on_error(self, event: ErrorEvent) -> None:
        self._errors[event.code] = None

    def on_warning(self, event: WarningEvent) -> None:
        self._warnings[event.code] = None

    def on_reading_paused(self, now: float) -> None:
        self._pause_count += 1

    def on_close(self, summary: Summary, code: ErrorCode | None, *, peer_disconnected: bool, now: float) -> None:
        info = self._info
        facts = SessionFields(
            transport=info.transport,
            dialect=info.protocol,
            mode=self._mode,
            model=info.model or None,
            peer=info.peer,
            reason=code or (GONE if peer_disconnected else STOPPED),
            duration_s=_short(now - self._born),
            received_s=_short(summary.received_s),
            answered_s=_short(summary.answered_s),
            streams=summary.streams,
            segments=summary.segments,
            interims=summary.interims,
            failed=summary.failed,
            interims_dropped=summary.interims_dropped,
            bad_packets=summary.bad_packets,
            rtf_decoding=_ratio(self._view.busy_s, summary.received_s),
            rtf_inference=_ratio(self._inference_s, self._inferred_s),
            first_result_s=_short(self._first_result_s) if self._first_result_s is not None else None,
            final_latency_mean_s=_ratio(self._latency_sum_s, self._latencies),
            final_latency_max_s=_short(self._latency_max_s) if self._latencies else None,
            suppressed=self._pause_count,
            errors=tuple(self._errors),
            warnings=tuple(self._warnings),
        )
        log.info("session closed", extra={"facts": facts, "session_id": info.id})


def _short(seconds: float) -> float:
    return round(seconds, 4)


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 5) if whole else None
