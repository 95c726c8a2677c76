"""Each failure has one status, and it is the one that the proto names."""

from __future__ import annotations

import re

from streamer.errors import ErrorCode
from streamer.transports.grpc.status import STATUS, trailers
from tests.protocols.proto_shape import FILE, PROTO


def test_the_table_is_total() -> None:
    assert set(STATUS) == set(ErrorCode)


def test_the_proto_says_the_same() -> None:
    table = re.findall(r"^ *// +([A-Z_]{7,}) +([a-z_0-9, ]+)$", (PROTO / FILE).read_text(), re.MULTILINE)
    said = {ErrorCode(code): status for status, codes in table for code in codes.split(", ")}
    assert said == {code: status.name for code, status in STATUS.items()}


def test_a_refusal_says_when_to_come_back() -> None:
    assert trailers(ErrorCode.BAD_REQUEST) == (("streamer-code", "bad_request"),)
    assert dict(trailers(ErrorCode.OVERLOADED, 1.0005)) == {
        "streamer-code": "overloaded",
        "retry-after-ms": "1001",
        "grpc-retry-pushback-ms": "1001",
    }
