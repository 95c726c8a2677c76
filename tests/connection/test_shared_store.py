"""State that servers share: used tokens and the sessions of a subject, with a store that is away, slow or back."""

from __future__ import annotations

import asyncio
import base64
import shutil
import signal
import socket
import subprocess
import time as wall
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from streamer.access.replay_store import TokenReplayed
from streamer.access.shared import SharedStore, StoreUnavailable
from streamer.app import App
from streamer.clock import LoopClock
from streamer.config import Settings, StoreSettings
from streamer.connection.admission import QuotaExceeded
from streamer.connection.shared_access import PAUSE_S, SharedAccess
from streamer.connection.shared_store import RedisStore
from streamer.errors import ConfigError, ErrorCode, Overloaded, StreamerError
from streamer.testing import ManualClock
from tests.access.makers import NOW
from tests.connection.memory_store import MemoryStore
from tests.transports.serving import scripted

REDIS = shutil.which("redis-server") or shutil.which("valkey-server")
needs_redis = pytest.mark.skipif(REDIS is None, reason="redis-server is in Debian's package redis-server")
PATIENT = 20.0
"""Seconds that a store has on a busy machine, if the test is not about a slow one."""


class Server:
    """A Redis of a test's own, which can die, stand still and come back with what it had on its disk."""

    def __init__(self, folder: Path, *, password: str = "") -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._password = password
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert REDIS is not None
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always"]
        options += ["--requirepass", self._password] if self._password else []
        self.process = subprocess.Popen([REDIS, *options], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if b"Ready to accept connections" in line:
                break
        else:
            pytest.fail("redis-server did not start")

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    pytest.importorskip("redis")
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["memory", pytest.param("redis", marks=needs_redis)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[SharedStore]:
    if request.param == "memory":
        made: SharedStore = MemoryStore(LoopClock())
    else:
        made = RedisStore(StoreSettings(request.getfixturevalue("redis").url, timeout_s=PATIENT))
    yield made
    await made.close()


# Every store -------------------------------------------------------------------------------------------------------


async def test_a_token_is_new_once_whoever_asks_at_the_same_time(store: SharedStore) -> None:
    answers = await asyncio.gather(*[store.use_token("a", 60.0) for _ in range(20)])
    assert sorted(answers) == [False] * 19 + [True]
    assert await store.use_token("b", 60.0)


async def test_a_token_is_forgotten_after_its_time(store: SharedStore) -> None:
    assert await store.use_token("a", 0.001)
    async with asyncio.timeout(PATIENT):
        while not await store.use_token("a", 0.001):
            await asyncio.sleep(0.001)


async def test_sessions_of_a_subject_are_counted_up_to_the_limit(store: SharedStore) -> None:
    counted = await asyncio.gather(*[store.acquire(("ann", str(n)), 3, 60.0) for n in range(10)])
    assert sum(counted) == 3
    assert await store.acquire(("bob", "1"), 3, 60.0)
    await store.release(("ann", str(counted.index(True))))
    assert await store.acquire(("ann", "new"), 3, 60.0)
    assert not await store.acquire(("ann", "newer"), 3, 60.0)
    assert await store.acquire(("ann", "new"), 3, 60.0)  # it counts already


async def test_sessions_that_are_not_refreshed_count_no_more(store: SharedStore) -> None:
    assert await store.acquire(("ann", "dead"), 1, 0.001)
    async with asyncio.timeout(PATIENT):
        while not await store.acquire(("ann", "new"), 1, 60.0):
            await asyncio.sleep(0.001)


async def test_refreshing_counts_what_the_store_has_lost(store: SharedStore) -> None:
    await store.refresh([("ann", "1"), ("ann", "2"), ("bob", "1")], 60.0)
    assert not await store.acquire(("ann", "3"), 2, 60.0)
    assert await store.acquire(("bob", "2"), 2, 60.0)
    await store.refresh([], 60.0)


async def test_no_limit_is_a_limit(store: SharedStore) -> None:
    assert await store.acquire(("ann", "1"), float("inf"), 60.0)


# What servers do with it -------------------------------------------------------------------------------------------


class Breakable(MemoryStore):
    """A store in memory that can be away, and counts how often it is asked."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.is_away = False
        self.asked = 0

    async def use_token(self, token_id: str, ttl_s: float) -> bool:
        self._check()
        return await super().use_token(token_id, ttl_s)

    async def acquire(self, held: Any, limit: float, ttl_s: float) -> bool:
        self._check()
        return await super().acquire(held, limit, ttl_s)

    async def refresh(self, held: Any, ttl_s: float) -> None:
        self._check()
        await super().refresh(held, ttl_s)

    async def release(self, held: Any) -> None:
        self._check()
        await super().release(held)

    def _check(self) -> None:
        self.asked += 1
        if self.is_away:
            raise StoreUnavailable("away")


class Fleet:
    """Servers with one store, on one clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = Breakable(self.clock)
        self.settings = StoreSettings("memory", session_ttl_s=30.0)

    def server(self) -> SharedAccess:
        access = SharedAccess(self.store, self.settings, self.clock, retry_after_s=5.0)
        access.start()
        return access

    async def advance(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.clock.advance(1.0)
            for _ in range(5):
                await asyncio.sleep(0)


@pytest.fixture
async def fleet() -> Fleet:
    return Fleet()


async def may_open(server: SharedAccess, limit: int = 2) -> bool:
    try:
        async with server.hold("ann", limit):
            return True
    except QuotaExceeded:
        return False


async def test_a_limit_holds_for_all_servers_together(fleet: Fleet) -> None:
    one, other = fleet.server(), fleet.server()
    async with one.hold("ann", 2), other.hold("ann", 2):
        with pytest.raises(QuotaExceeded, match="its limit of 2 sessions on all servers") as refused:
            async with one.hold("ann", 2):
                pass
        assert refused.value.retry_after_s == 5.0
        async with one.hold("bob", 2):
            pass
    assert await may_open(one)
    for server in (one, other):
        await server.stop()


async def test_long_sessions_stay_counted_and_those_of_a_dead_server_do_not(fleet: Fleet) -> None:
    living, dead = fleet.server(), fleet.server()
    async with AsyncExitStack() as sessions:
        await sessions.enter_async_context(living.hold("ann", 2))
        await sessions.enter_async_context(dead.hold("ann", 2))
        await fleet.advance(300)
        assert not await may_open(living)
        await dead.stop()
        await fleet.advance(31)
        assert await may_open(living)
        assert not await may_open(living, limit=1)
    await living.stop()


async def test_while_the_store_is_away_tokens_are_refused_and_sessions_are_not(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    server = fleet.server()
    async with server.hold("ann", 1):
        fleet.store.is_away = True
        with pytest.raises(Overloaded, match="cannot be checked") as refused:
            await server.use("token", NOW + 60, NOW)
        assert refused.value.retry_after_s == 5.0
        assert await may_open(server, limit=1)
        asked = fleet.store.asked
        assert await may_open(server, limit=1)
        assert fleet.store.asked == asked  # it is left alone for a moment
        await fleet.advance(PAUSE_S)
        with pytest.raises(Overloaded):
            await server.use("token", NOW + 60, NOW)
        assert fleet.store.asked == asked + 1
        assert caplog.text.count("the shared store is away (away)") == 1

        fleet.store.is_away = False
        fleet.store._sessions.clear()  # it has come back empty
        await fleet.advance(11)
        assert not await may_open(server, limit=1)
        assert caplog.text.count("the shared store is back") == 1
    await server.use("token", NOW + 60, NOW)
    with pytest.raises(TokenReplayed):
        await server.use("token", NOW + 60, NOW)
    assert server.failures == 2
    await server.stop()


# A real store that fails -------------------------------------------------------------------------------------------


def access_to(redis: Server, timeout_s: float = PATIENT) -> SharedAccess:
    settings = StoreSettings(redis.url, timeout_s=timeout_s, session_ttl_s=3.0)
    return SharedAccess(RedisStore(settings), settings, LoopClock(), retry_after_s=5.0)


async def outcome(access: SharedAccess, token: str) -> ErrorCode | None:
    try:
        await access.use(token, NOW + 60, NOW)
    except StreamerError as error:
        return error.code
    return None


async def until_used(access: SharedAccess, token: str) -> ErrorCode | None:
    """The first answer of a store that is back."""
    async with asyncio.timeout(PATIENT):
        while (code := await outcome(access, token)) is ErrorCode.OVERLOADED:
            await asyncio.sleep(0.05)
    return code


@needs_redis
async def test_a_store_that_dies_and_comes_back_remembers_the_tokens_on_its_disk(redis: Server) -> None:
    access = access_to(redis)
    assert await outcome(access, "a") is None
    redis.stop()
    assert await outcome(access, "a") is ErrorCode.OVERLOADED
    assert await outcome(access, "b") is ErrorCode.OVERLOADED
    assert await may_open(access)
    redis.start()
    assert await until_used(access, "c") is None
    assert await outcome(access, "a") is ErrorCode.TOKEN_REPLAYED
    assert await outcome(access, "b") is None
    await access.stop()


@needs_redis
async def test_a_store_that_stands_still_is_away_after_its_time(redis: Server) -> None:
    access = access_to(redis, timeout_s=0.1)
    assert await until_used(access, "a") is None
    redis.signal(signal.SIGSTOP)
    assert await outcome(access, "b") is ErrorCode.OVERLOADED
    redis.signal(signal.SIGCONT)
    assert await until_used(access, "c") is None
    # Whether the store read the request before its time was over is not known: it does not work twice in any case.
    assert await outcome(access, "b") in (None, ErrorCode.TOKEN_REPLAYED)
    assert await outcome(access, "b") in (ErrorCode.TOKEN_REPLAYED, ErrorCode.OVERLOADED)
    await access.stop()


@needs_redis
async def test_the_password_comes_from_a_file(tmp_path: Path) -> None:
    pytest.importorskip("redis")
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "data").mkdir()
    server = Server(tmp_path / "data", password="secret")
    server.start()
    try:
        for file, expected in ((str(tmp_path / "password"), None), ("", ErrorCode.OVERLOADED)):
            settings = StoreSettings(server.url, password_file=file, timeout_s=PATIENT)
            access = SharedAccess(RedisStore(settings), settings, LoopClock(), retry_after_s=5.0)
            assert await outcome(access, f"token {file}") is expected
            await access.stop()
    finally:
        server.stop()


def test_a_wrong_address_or_password_file_is_a_configuration_error(tmp_path: Path) -> None:
    pytest.importorskip("redis")
    with pytest.raises(ConfigError, match=r"store.url: expected redis://host:port/0"):
        RedisStore(StoreSettings("valkey:6379"))
    with pytest.raises(ConfigError, match=r"store.password_file: .*no-file: cannot be read"):
        RedisStore(StoreSettings("redis://x", password_file=str(tmp_path / "no-file")))


# Two servers -------------------------------------------------------------------------------------------------------


@needs_redis
async def test_two_servers_take_a_token_once_and_count_a_subject_together(redis: Server, tmp_path: Path) -> None:
    import aiohttp

    from tests.access.makers import SECRET, token
    from tests.media.material import read
    from tests.transports.serving import dialled

    secrets = tmp_path / "secrets"
    secrets.write_text(base64.urlsafe_b64encode(SECRET).decode())
    sections: dict[str, Any] = {
        "server": {"port": 0, "max_sessions_per_subject": 2},
        "access": {"token_secrets_file": str(secrets)},
        "store": {"url": redis.url, "timeout_s": PATIENT / 2},
    }
    async with (
        App(Settings(**sections), parts=scripted()) as one,
        App(Settings(**sections), parts=scripted()) as other,
        AsyncExitStack() as sessions,
    ):

        async def status(app: App, made: str) -> int:
            try:
                await sessions.enter_async_context(dialled(app, headers={"Authorization": f"Bearer {made}"}))
            except aiohttp.WSServerHandshakeError as error:
                return error.status
            return 101

        def fresh(**claims: Any) -> str:
            now = int(wall.time())
            return token(iat=now, exp=now + 60, **claims)

        async def posted(app: App, made: str) -> int:
            url, headers = f"{app.url}/api/v2/simple", {"Authorization": f"Bearer {made}"}
            async with aiohttp.ClientSession(headers=headers) as http, http.post(url, data=read("opus60.ogg")) as got:
                return got.status

        once = fresh(once=True)
        assert await status(one, once) == 101
        assert await status(other, once) == 401
        assert await posted(other, once) == 401
        assert await status(other, fresh()) == 101
        assert await posted(one, fresh()) == 429
        assert [await status(app, fresh()) for app in (one, other)] == [429, 429]
        await sessions.aclose()
        async with asyncio.timeout(PATIENT):
            while await posted(one, fresh()) != 200:
                await asyncio.sleep(0.01)
            while await status(other, fresh()) != 101:
                await asyncio.sleep(0.01)
