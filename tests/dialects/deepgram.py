"""Codecs of Deepgram's protocol, and what a client looks for in what it hears."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streamer.protocols.deepgram.listen import Listen, ListenIdentity
from streamer.protocols.deepgram.query import ListenRequest, read_listen
from streamer.protocols.deepgram.shared_query import ListenPolicy
from streamer.session.events import Mode
from streamer.session.settings import SessionSettings

RAW = {"encoding": "linear16", "sample_rate": "16000"}
IDENTITY = ListenIdentity("request-1", "2026-11-28T06:00:00.000Z", "scripted", "uuid-1")


def request(*model_options: str, refuse_ignored: bool = False, **query: str) -> ListenRequest:
    policy = ListenPolicy(SessionSettings(Mode.SEGMENTED), 300, model_options, refuse_ignored=refuse_ignored)
    return read_listen(tuple(query.items()), policy)


def listen(*model_options: str, **query: str) -> Listen:
    return Listen(request(*model_options, **(RAW | query)), IDENTITY, 16_000)


def of_type(heard: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [message for message in heard if message["type"] == name]


def finals(heard: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for message in of_type(heard, "Results") if message["is_final"]]


def texts(results: list[dict[str, Any]]) -> list[str]:
    return [result["channel"]["alternatives"][0]["transcript"] for result in results]


def client(url: str, key: str = "any") -> Any:
    """Return a client of Deepgram's SDK."""
    from deepgram import AsyncDeepgramClient
    from deepgram.environment import DeepgramClientEnvironment

    socket = url.replace("http", "ws", 1)
    environment = DeepgramClientEnvironment(base=url, production=socket, agent=socket, agent_rest=url)
    return AsyncDeepgramClient(api_key=key, environment=environment)


def unknown_fields(model: Any) -> Iterator[str]:
    """Yield the names of fields that the SDK's models do not have."""
    yield from model.model_extra or ()
    for value in vars(model).values():
        for each in value if isinstance(value, list) else [value]:
            if hasattr(each, "model_extra"):
                yield from unknown_fields(each)
