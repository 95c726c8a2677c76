"""The words that proto and core have in common: enums by number, JSON as google.protobuf.Value. For both ends."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Generic, TypeVar

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.struct_pb2 import NULL_VALUE, Struct, Value

from streamer.audio.format import Encoding
from streamer.errors import ErrorCode
from streamer.protocols.pb import streamer_pb2 as pb
from streamer.session.events import FinishReason, Json, Mode, WarningCode

WordT = TypeVar("WordT", bound=StrEnum)

_EXACT = 2**53
"""Whole numbers below it are exact as a double, which is what a Value has for numbers."""


class Words(Generic[WordT]):
    """An enum of the core and the proto enum with the same words: `PREFIX_` and the word in upper case."""

    def __init__(self, core: type[WordT], proto: EnumTypeWrapper, prefix: str) -> None:
        self._names = {word: f"{prefix}_{word.upper()}" for word in core}
        self._words = {proto.Value(name): word for word, name in self._names.items()}

    def name(self, word: WordT) -> str:
        """As proto has it; a message takes it for the number."""
        return self._names[word]

    def word(self, number: int) -> WordT | None:
        """None for 0, which stands for nothing, and for what a newer peer says."""
        return self._words.get(number)


ENCODINGS = Words(Encoding, pb.Encoding, "ENCODING")
MODES = Words(Mode, pb.Mode, "MODE")
ERRORS = Words(ErrorCode, pb.ErrorCode, "ERROR_CODE")
WARNINGS = Words(WarningCode, pb.WarningCode, "WARNING_CODE")
REASONS = Words(FinishReason, pb.FinishReason, "FINISH_REASON")


def fill_struct(struct: Struct, members: dict[str, Json]) -> None:
    """Put a JSON object into an empty Struct."""
    struct.SetInParent()
    for key, item in members.items():
        fill_value(struct.fields[key], item)


def fill_value(value: Value, json: Json) -> None:
    """Put JSON into an empty Value. As in JSON, a number that is none (NaN, infinity) is null."""
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
    """The JSON object of a Struct."""
    return {key: read_value(value) for key, value in struct.fields.items()}


def read_value(value: Value) -> Json:
    """The JSON of a Value; a whole number is an int again, as JSON's `5` is."""
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
