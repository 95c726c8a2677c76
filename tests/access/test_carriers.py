"""Where clients of other services put their credential."""

from __future__ import annotations

import pytest

from streamer.access import Carriers, CredentialSource

DEEPGRAM = Carriers(schemes=("token", "bearer"), pairs=("token", "bearer"))
OPENAI = Carriers(headers=("api-key",), prefix="openai-insecure-api-key.")
ASSEMBLYAI = Carriers(schemes=("", "bearer"), parameters=("token",))


@pytest.mark.parametrize(
    ("carriers", "headers", "offered", "query", "carrier"),
    [
        (DEEPGRAM, {"authorization": "Token KEY"}, [], {}, CredentialSource.HEADER),
        (DEEPGRAM, {"authorization": "bearer KEY"}, [], {}, CredentialSource.HEADER),
        (DEEPGRAM, {}, ["token", "KEY", "x-deepgram-session-id", "1"], {}, CredentialSource.SUBPROTOCOL),
        (OPENAI, {"api-key": "KEY"}, [], {}, CredentialSource.HEADER),
        (OPENAI, {}, ["realtime", "openai-insecure-api-key.KEY"], {}, CredentialSource.SUBPROTOCOL),
        (ASSEMBLYAI, {"authorization": "KEY"}, [], {}, CredentialSource.HEADER),
        (ASSEMBLYAI, {}, [], {"token": "KEY"}, CredentialSource.QUERY),
        (ASSEMBLYAI, {}, [], {"access_token": "KEY"}, CredentialSource.QUERY),
        (Carriers(), {}, ["streamer.v2", "streamer.bearer.S0VZ"], {}, CredentialSource.SUBPROTOCOL),
    ],
)
def test_a_credential_is_found_where_the_clients_of_a_service_put_it(
    carriers: Carriers, headers: dict[str, str], offered: list[str], query: dict[str, str], carrier: CredentialSource
) -> None:
    found = carriers.find(headers, offered, query)
    assert found is not None
    assert (found.secret, found.source) == ("KEY", carrier)


@pytest.mark.parametrize("carriers", [DEEPGRAM, OPENAI, Carriers()])
@pytest.mark.parametrize("value", ["Basic KEY", "KEY", ""])
def test_an_unreadable_header_is_a_wrong_credential_and_not_none(carriers: Carriers, value: str) -> None:
    found = carriers.find({"authorization": value}, ["token", "KEY"], {"access_token": "KEY"})
    assert found is not None
    assert (found.secret, found.source) == ("", CredentialSource.HEADER)


@pytest.mark.parametrize("carriers", [DEEPGRAM, OPENAI, ASSEMBLYAI, Carriers()])
def test_without_a_credential_there_is_none(carriers: Carriers) -> None:
    assert carriers.find({}, [], {}) is None
    assert carriers.find({}, ["token"], {"key": "KEY"}) is None
