"""A server of another service's protocol, with a healthy stream beside the one that does wrong."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from streamer.app import App
from streamer.parts import AppParts
from tests.dialects.call_feed_reader import CallFeedReader, listening_to_calls
from tests.dialects.fault_peers import PATIENCE_S, PEERS, SERVED_AS, CallPeer, Heard, Peer
from tests.dialects.recogniser import SENTENCES, dialect_server, sentence, silence
from tests.faults.gates import KEY, bearer
from tests.transports.serving import dialled


@dataclass(frozen=True)
class Answer:
    """What a fault is answered with. `errors`: names of the protocol. `close`: None if the stream goes on."""

    errors: tuple[str, ...] = ()
    close: int | str | None = None


def stays(*errors: str) -> Answer:
    """The client is told, and the stream goes on."""
    return Answer(errors)


def ends(close: int | str, *errors: str) -> Answer:
    """The client is told, and the connection is closed."""
    return Answer(errors, close)


@dataclass(frozen=True)
class Refused:
    """The request is refused before the upgrade."""

    status: int


def over(**answers: Any) -> pytest.MarkDecorator:
    """Run a test over these protocols, each with its answer."""
    return pytest.mark.parametrize(("name", "answer"), list(answers.items()), ids=list(answers))


class FaultStage:
    """A running server, and clients of one of its protocols."""

    def __init__(self, app: App, name: str, feed: CallFeedReader | None, healthy: Mapping[str, Any]) -> None:
        self.app = app
        self.healthy = healthy
        """Options of the stream beside."""
        self.peer_type = PEERS[name]
        self.feed = feed

    def connected(self, **options: Any) -> Any:
        """Open a connection for a block."""
        return self.peer_type.connected(self.app, self.feed, **options)

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[Peer]:
        """A healthy stream, which hears what it would hear alone."""
        async with self.connected(**self.healthy) as peer:
            await peer.start()
            await peer.speak(silence(0.3, peer.rate) + sentence(1, 0.6, peer.rate))
            yield peer
            await peer.speak(sentence(1, 0.6, peer.rate) + silence(1.5, peer.rate))
            await peer.stop()
            assert await peer.rest() == Heard([SENTENCES[0]], [], peer.clean)

    async def answers(self, peer: Peer, answer: Answer) -> None:
        """The client that did wrong is told this, and its stream goes on or ends."""
        if answer.close is not None:
            assert await peer.rest() == Heard([], list(answer.errors), answer.close)
        else:
            await self.still_works(peer, answer)

    async def still_works(self, peer: Peer, answer: Answer) -> None:
        """What the client says from now on is heard."""
        await peer.speak(silence(0.3, peer.rate) + sentence(2, rate=peer.rate) + silence(1.5, peer.rate))
        await peer.stop()
        assert await peer.rest() == Heard([SENTENCES[1]], list(answer.errors), peer.clean)

    async def refuses(self, refused: Refused, **options: Any) -> aiohttp.WSServerHandshakeError:
        """A request is refused before the upgrade; return the refusal."""
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with self.connected(**options):
                pass
        assert caught.value.status == refused.status
        return caught.value

    def counts(self) -> dict[str, int]:
        """Return what the server holds."""
        return {
            "sessions": len(self.app.connections),
            "admitted": self.app.admission.active,
            "bytes": self.app.memory.used,
            "tasks": len(asyncio.all_tasks()),
            "files": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
        }

    def leaks(self, before: Mapping[str, int]) -> dict[str, int]:
        """Return what the server holds more of than before."""
        return {name: now - before[name] for name, now in self.counts().items() if now > before[name]}


class _Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.getMessage()} {record.exc_info}")


@contextmanager
def no_errors_logged() -> Iterator[None]:
    """Fail if an error is logged in the block: no fault of a client is one of the server."""
    handler, root = _Errors(), logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
    assert handler.texts == []


@asynccontextmanager
async def fault_stage(
    name: str,
    parts: AppParts | None = None,
    *,
    healthy: Mapping[str, Any] | None = None,
    warms_up: bool = True,
    **sections: Any,
) -> AsyncIterator[FaultStage]:
    """A server that speaks one protocol; at the end it holds what it held at the beginning, and has logged no error.

    `healthy`: options of the stream beside. `warms_up`: whether one is opened first, or one
    of the native protocol. `sections`: settings.
    """
    dialects = {"wyoming_port": -1, "calls_audiosocket_port": -1, **sections.pop("dialects", {})}
    # How much work an address may cause is a rule of its own, and the clock may stand still.
    sections["server"] = {"max_control_share_per_address": 0, **sections.get("server", {})}
    sections["limits"] = {"max_control_share": 100.0, **sections.get("limits", {})}
    # The stream beside waits in mid-utterance for as long as a fault takes.
    sections["session"] = {"stall_timeout_s": 0, **sections.get("session", {})}
    async with AsyncExitStack() as stack:
        stack.enter_context(no_errors_logged())
        dialect = SERVED_AS.get(name, name)
        app = await stack.enter_async_context(dialect_server(dialect, parts, dialects=dialects, **sections))
        is_call = issubclass(PEERS[name], CallPeer)
        feed = await stack.enter_async_context(listening_to_calls(app, bearer(KEY))) if is_call else None
        stage = FaultStage(app, name, feed, healthy or {})
        idle = stage.counts()
        # What a first connection opens for good is no leak.
        async with stage.beside() if warms_up else dialled(app, "/api/v2/segmented", headers=bearer(KEY)):
            pass
        await app.connections.wait_empty()
        before = {**idle, "files": stage.counts()["files"]}
        assert (before["sessions"], before["admitted"], before["bytes"]) == (0, 0, 0)
        yield stage
        with suppress(TimeoutError):  # the comparison says what is left
            async with asyncio.timeout(PATIENCE_S):
                while stage.leaks(before):
                    await asyncio.sleep(0.01)
        assert not stage.leaks(before)
