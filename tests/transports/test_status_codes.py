"""The wire tables have a word for every failure."""

from __future__ import annotations

from streamer.errors import ErrorCode
from streamer.transports.status_codes import CLOSE_CODES, HTTP_STATUS


def test_every_code_has_a_close_code_that_a_server_may_send() -> None:
    assert set(CLOSE_CODES) == set(ErrorCode)
    assert all(
        code in {1002, 1003, 1007, 1009, 1011, 1012, 1013} or 4000 <= code < 5000 for code in CLOSE_CODES.values()
    )


def test_every_code_has_a_status_of_failure() -> None:
    assert set(HTTP_STATUS) == set(ErrorCode)
    assert all(400 <= status < 600 for status in HTTP_STATUS.values())


def test_what_may_be_retried_is_not_the_clients_fault_for_ever() -> None:
    assert {CLOSE_CODES[code] for code in (ErrorCode.OVERLOADED, ErrorCode.DRAINING)} == {1013, 1012}
    assert HTTP_STATUS[ErrorCode.OVERLOADED] == HTTP_STATUS[ErrorCode.DRAINING] == 503
