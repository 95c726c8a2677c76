"""Conversions between proto and core: enums by number, JSON as google.protobuf.Value. For server and client."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Generic, TypeVar

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.struct_pb2 import NULL_VALUE, Struct, Value

from streamer.audio.format import Encoding
from streamer.errors import ErrorCode
from streamer.media.formats import Container
from streamer.protocols.pb import streamer_pb2 as pb
from streamer.session.events import FinishReason, Json, Mode, WarningCode

WordT = TypeVar("WordT", bound=StrEnum)

_EXACT = 2**53
"""Largest range of whole numbers that are exact as a double, the number type of a Value."""


class EnumMapping(Generic[WordT]):
    """Mapping between an enum of the core and the proto enum: `PREFIX_` and the upper-case value."""

    def __init__(self, core: type[WordT], proto: EnumTypeWrapper, prefix: str) -> None:
        self._names = {word: f"{prefix}_{word.upper()}" for word in core}
        self._values = {proto.Value(name): word for word, name in self._names.items()}

    def name(self, word: WordT) -> str:
        """Return the proto name, which a message accepts for the number."""
        return self._names[word]

    def value(self, number: int) -> WordT | None:
        """Return the core's value; None for 0 (unspecified) and for values of a newer peer."""
        return self._values.get(number)


ENCODINGS = EnumMapping(Encoding, pb.Encoding, "ENCODING")
CONTAINERS = EnumMapping(Container, pb.Encoding, "ENCODING")
MODES = EnumMapping(Mode, pb.Mode, "MODE")
ERRORS = EnumMapping(ErrorCode, pb.ErrorCode, "ERROR_CODE")
WARNINGS = EnumMapping(WarningCode, pb.WarningCode, "WARNING_CODE")
REASONS = EnumMapping(FinishReason, pb.FinishReason, "FINISH_REASON")


def fill_struct(struct: Struct, members: dict[str, Json]) -> None:
    """Fill an empty Struct with a JSON object."""
    struct.SetInParent()
    for key, item in members.items():
        fill_value(struct.fields[key], item)


def fill_value(value: Value, json: Json) -> None:
    """Fill an empty Value with JSON. As in JSON, NaN and infinity become null."""
    match json:
        case bool():
            value.bool_value = json
        case str():
            value.string_value = json
        case int() | float() if math.isfinite(json):
            value.number_value = json
        case dict():
            fill_struct(value.struct_value, json)
        case list():
            value.list_value.SetInParent()
            for item in json:
                fill_value(value.list_value.values.add(), item)
        case _:
            value.null_value = NULL_VALUE


def read_struct(struct: Struct) -> dict[str, Json]:
    """Return the JSON object of a Struct."""
    return {key: read_value(value) for key, value in struct.fields.items()}


def read_value(value: Value) -> Json:
    """Return the JSON of a Value. A whole number becomes an int, as `5` in JSON."""
    match value.WhichOneof("kind"):
        case "bool_value":
            return value.bool_value
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < _EXACT else number
        case "struct_value":
            return read_struct(value.struct_value)
        case "list_value":
            return [read_value(item) for item in value.list_value.values]
        case _:
            return None
