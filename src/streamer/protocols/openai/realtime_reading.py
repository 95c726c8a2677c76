"""Reading of a client's events of the Realtime API. Unreadable input becomes a fault, never an exception."""

from __future__ import annotations

from typing import Any

import msgspec

from streamer.errors import brief
from streamer.protocols.openai.faults import INVALID_REQUEST, RequestFault
from streamer.protocols.openai.realtime_wire import CLIENT_EVENTS, MAX_EVENT_ID, RealtimeClientEvent

_MAX_TEXT = 200
"""Characters of a client's text in an error."""
_decoder: msgspec.json.Decoder[RealtimeClientEvent] = msgspec.json.Decoder(RealtimeClientEvent)


def read_event(frame: str | bytes) -> RealtimeClientEvent | RequestFault:
    """Return the event of a frame, or the fault of one that is not an event."""
    if not isinstance(frame, str):
        return refuse_event("expected an event as a text message, got a binary message", None)
    try:
        return _decoder.decode(frame)
    except UnicodeEncodeError:
        return refuse_event("not JSON: half of a surrogate pair", None, "invalid_json")
    except RecursionError:
        return refuse_event("JSON is nested too deep", None, "invalid_json")
    except msgspec.ValidationError as error:
        return _invalid(error)
    except msgspec.DecodeError as error:
        return refuse_event(f"not JSON: {brief(str(error))}", None, "invalid_json")


def refuse_event(message: str, param: str | None, code: str = "invalid_value") -> RequestFault:
    """Return the fault of a client's event. `param`: the wrong field."""
    return RequestFault(message, INVALID_REQUEST, code, param)


def _invalid(error: msgspec.ValidationError) -> RequestFault:
    """Return the fault of JSON that is not an event of the API."""
    text, _, path = str(error).partition(" - at `$")
    param = path.rstrip("`").lstrip(".") or None
    if param == "type" or "missing required field `type`" in text:
        return refuse_event(f"{_lower(text)}: expected one of {', '.join(CLIENT_EVENTS)}", "type")
    if param == "session.type":
        return refuse_event(f"session.type: {_lower(text)}: expected transcription, all that this server does", param)
    if param == "audio":
        return refuse_event("audio: expected audio in base64", param)
    return refuse_event(f"{param}: {_lower(text)}" if param else _lower(text), param)


def _lower(text: str) -> str:
    text = text[:1].lower() + text[1:]
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"


class _Identified(msgspec.Struct):
    """Any event, as far as an error has to name it."""

    event_id: Any = None


_identify = msgspec.json.Decoder(_Identified)


def event_id_of(frame: str | bytes) -> str | None:
    """Return the id of an event that could not be read, if it has one."""
    try:
        found = _identify.decode(frame).event_id
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return found if isinstance(found, str) and len(found) <= MAX_EVENT_ID else None
