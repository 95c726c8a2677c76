"""The dates of certificates, as another reader of X.509 finds them; and whatever else a file may hold."""

from __future__ import annotations

import base64
from contextlib import suppress
from datetime import UTC, datetime

import pytest
import trustme
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from streamer.transports.validity import EXPIRES_SOON_S, Phase, Validity, read_validity

AUTHORITY = trustme.CA()
KEY = trustme.CA().issue_cert("localhost").private_key_pem.bytes().decode()


def pem(**dates: datetime) -> str:
    return AUTHORITY.issue_cert("localhost", **dates).cert_chain_pems[0].bytes().decode()  # type: ignore[arg-type]


@given(st.lists(st.datetimes(datetime(1951, 1, 1), datetime(9999, 12, 31)), min_size=2, max_size=2, unique=True))
def test_dates_are_those_that_another_reader_finds(dates: list[datetime]) -> None:
    first, last = sorted(date.replace(microsecond=0) for date in dates)
    if first == last:
        return
    text = pem(not_before=first, not_after=last)
    found = x509.load_pem_x509_certificate(text.encode())
    assert read_validity(text) == Validity(
        found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    )


def test_the_first_certificate_of_a_file_counts_whatever_stands_before_it() -> None:
    first, second = pem(not_after=datetime(2040, 1, 1)), pem(not_after=datetime(2050, 1, 1))
    expected = datetime(2040, 1, 1, tzinfo=UTC).timestamp()
    for text in (first + second, KEY + first + second, "a comment\n" + first, first.replace("\n", "\r\n")):
        assert read_validity(text).not_after == expected


@pytest.mark.parametrize("text", ["", KEY, "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----"])
def test_a_file_without_a_certificate_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"certificate|base64|padding"):
        read_validity(text)


DER = base64.b64decode("".join(pem().splitlines()[1:-1]))


@given(st.integers(0, len(DER) - 1), st.integers(0, 255), st.booleans())
def test_a_damaged_certificate_has_dates_or_none(at: int, byte: int, cut: bool) -> None:
    damaged = DER[:at] if cut else DER[:at] + bytes([byte]) + DER[at + 1 :]
    with suppress(ValueError):
        read_validity(f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(damaged).decode()}\n-----END CERTIFICATE-----")


def test_a_certificate_counts_from_its_first_second_to_its_last() -> None:
    validity = Validity(1_000.0, 1_000.0 + 2 * EXPIRES_SOON_S)
    phases = [validity.phase(now) for now in (999.9, 1_000.0, validity.not_after - EXPIRES_SOON_S, validity.not_after)]
    assert phases == [Phase.NOT_YET_VALID, Phase.VALID, Phase.EXPIRES_SOON, Phase.EXPIRES_SOON]
    assert validity.phase(validity.not_after + 0.1) is Phase.EXPIRED
