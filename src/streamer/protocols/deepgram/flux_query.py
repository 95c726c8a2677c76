"""The query of `/v2/listen` (Flux), and the thresholds by which a client sets how turns end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from streamer.audio.format import AudioFormat
from streamer.errors import BadRequest
from streamer.protocols.deepgram.flux_wire import Thresholds
from streamer.protocols.deepgram.shared_query import (
    ListenPolicy,
    read_format,
    read_ignored,
    read_options,
    refuse_unsafe,
)
from streamer.protocols.parameters import Parameters
from streamer.session.messages import Start, VadOverrides

INTERIM_INTERVAL_MS = 250
"""Speech between two updates of a turn."""
_DEFAULTS = Thresholds(None, 0.7, 5_000)
_MANUAL = 1.0
"""Threshold that no confidence reaches: only a time-out or the client ends a turn."""
_EAGER, _THRESHOLD, _TIMEOUT_MS = (0.3, 0.9), (0.5, 1.0), (500, 60_000)


@dataclass(frozen=True, slots=True)
class FluxRequest:
    """A request as it was understood. `mixed`: see ListenRequest. `options`: of the model."""

    start: Start
    mixed: AudioFormat | None
    thresholds: Thresholds
    options: Mapping[str, Any]
    ignored: tuple[str, ...]
    policy: ListenPolicy

    @property
    def is_manual(self) -> bool:
        """Whether silence ends a turn only after the time-out."""
        return self.thresholds.eot_threshold == _MANUAL

    @property
    def keyterms(self) -> list[str]:
        """The key terms that have an effect."""
        return list(self.options.get("keyterm", ()))


def read_flux(query: Iterable[tuple[str, str]], policy: ListenPolicy) -> FluxRequest:
    """Read the query of a stream of turns. Raises BadRequest, naming the parameter."""
    parameters = Parameters(tuple(query))
    refuse_unsafe(parameters)
    format_, media, mixed, _ = read_format(parameters, policy.session)
    thresholds = Thresholds(
        parameters.number("eager_eot_threshold", *_EAGER),
        parameters.number("eot_threshold", *_THRESHOLD) or _DEFAULTS.eot_threshold,
        parameters.integer("eot_timeout_ms", *_TIMEOUT_MS) or _DEFAULTS.eot_timeout_ms,
    )
    options = read_options(parameters, policy)
    hints = parameters.texts("language_hint")
    if hints:
        _hint(options, hints, policy)
    ignored = [*read_ignored(parameters, policy)]
    ignored += [name for name in _without_effect(thresholds, hints, options) if name in parameters]
    if policy.refuse_ignored and (rest := [name for name in ignored if name != "model"]):
        expected = "no parameter without effect (dialects.unsupported_parameters)"
        raise BadRequest(field=rest[0], expected=expected, got=parameters.text(rest[0]))
    start = Start(
        format_,
        interim_results=True,
        interim_interval_ms=INTERIM_INTERVAL_MS,
        vad=_vad(thresholds, policy),
        options=msgspec.json.encode(options),
        media=media,
    )
    return FluxRequest(start, mixed, thresholds, options, tuple(ignored), policy)


def with_changes(
    request: FluxRequest, changed: Thresholds, keyterms: Sequence[str] | None, hints: Sequence[str] | None
) -> FluxRequest:
    """Return the request with other settings; None keeps one. Raises BadRequest, naming the field."""
    _check("eager_eot_threshold", changed.eager_eot_threshold, _EAGER)
    _check("eot_threshold", changed.eot_threshold, _THRESHOLD)
    _check("eot_timeout_ms", changed.eot_timeout_ms, _TIMEOUT_MS)
    old, policy = request.thresholds, request.policy
    thresholds = Thresholds(
        old.eager_eot_threshold if changed.eager_eot_threshold is None else changed.eager_eot_threshold,
        old.eot_threshold if changed.eot_threshold is None else changed.eot_threshold,
        old.eot_timeout_ms if changed.eot_timeout_ms is None else changed.eot_timeout_ms,
    )
    options = dict(request.options)
    if keyterms is not None and "keyterm" in policy.model_options:
        options["keyterm"] = list(keyterms)
    if hints is not None:
        _hint(options, hints, policy)
    start = replace(request.start, vad=_vad(thresholds, policy), options=msgspec.json.encode(options))
    return replace(request, thresholds=thresholds, options=options, start=start)


def _hint(options: dict[str, Any], hints: Sequence[str], policy: ListenPolicy) -> None:
    """Put the language into the options of a model that reads one. Several hints leave the choice to the model."""
    if "language_hint" in policy.model_options:
        options["language_hint"] = list(hints)
    if "language" not in policy.model_options:
        return
    options.pop("language", None)
    if len(hints) == 1:
        options["language"] = hints[0]


def _without_effect(thresholds: Thresholds, hints: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    names = ["eager_eot_threshold"]
    if thresholds.eot_threshold != _MANUAL:
        names.append("eot_threshold")
    if hints and not {"language", "language_hint"} & options.keys():
        names.append("language_hint")
    return names


def _check(name: str, value: float | None, bounds: tuple[float, float]) -> None:
    low, high = bounds
    if value is not None and not low <= value <= high:
        raise BadRequest(field=name, expected=f"a number from {low:g} to {high:g}", got=value)


def _vad(thresholds: Thresholds, policy: ListenPolicy) -> VadOverrides:
    """Return the endpointing: the server's, but no longer than the time-out; in manual mode, the time-out."""
    timeout_ms = float(max(thresholds.eot_timeout_ms or 0, policy.min_silence_ms))
    if thresholds.eot_threshold == _MANUAL:
        return VadOverrides(redemption_time_ms=min(timeout_ms, policy.max_silence_ms))
    return VadOverrides(redemption_time_ms=min(timeout_ms, policy.session.vad.redemption_time_ms))
