"""The store that several servers share: Valkey or Redis."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from streamer.access.shared import StoreUnavailable, SubjectSession
from streamer.config import StoreSettings
from streamer.errors import ConfigError, install_command

T = TypeVar("T")

_ACQUIRE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
"""Forget expired sessions of a subject, then count one more; in one step, by the store's own clock, in milliseconds."""
_MANY = 2**31


class RedisStore:
    """A store in Valkey or Redis. Each call has a time-out and is tried once: whoever waits is a client's handshake."""

    def __init__(self, settings: StoreSettings) -> None:
        """Prepare the connections. Raises ConfigError. `settings.url`: redis:// or rediss:// (TLS)."""
        try:
            from redis import asyncio as redis  # noqa: PLC0415 (an extra)
            from redis.asyncio.retry import Retry  # noqa: PLC0415
            from redis.backoff import NoBackoff  # noqa: PLC0415
            from redis.exceptions import RedisError  # noqa: PLC0415
        except ImportError as error:
            raise ConfigError(f"store.url needs the extra: {install_command('redis')} ({error})") from None
        self._failures: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)
        self._timeout_s = settings.timeout_s
        self._prefix = settings.prefix
        try:
            self._redis: Any = redis.Redis.from_url(
                settings.url,
                password=_password(settings.password_file),
                socket_connect_timeout=settings.timeout_s,
                socket_timeout=settings.timeout_s,
                retry=Retry(NoBackoff(), 0),
                max_connections=settings.max_connections,
            )
        except ValueError as error:
            raise ConfigError(
                field="store.url", expected="redis://host:port/0 or rediss://...", got=settings.url
            ) from error
        self._acquire = self._redis.register_script(_ACQUIRE)

    async def use_token(self, token_id: str, ttl_s: float) -> bool:
        """Implement `SharedStore.use_token`."""
        key = f"{self._prefix}token:{hashlib.sha256(token_id.encode()).hexdigest()}"
        return await self._ask(self._redis.set(key, 1, nx=True, px=_ms(ttl_s))) is not None

    async def acquire(self, holder: SubjectSession, limit: float, ttl_s: float) -> bool:
        """Implement `SharedStore.acquire`."""
        subject, session = holder
        arguments: list[str | int] = [session, int(min(limit, _MANY)), _ms(ttl_s)]
        return bool(await self._ask(self._acquire(keys=[self._key(subject)], args=arguments)))

    async def refresh(self, holders: Iterable[SubjectSession], ttl_s: float) -> None:
        """Implement `SharedStore.refresh`."""
        pipeline = self._redis.pipeline(transaction=False)
        for subject, session in holders:
            await self._acquire(keys=[self._key(subject)], args=[session, _MANY, _ms(ttl_s)], client=pipeline)
        if pipeline.command_stack:
            await self._ask(pipeline.execute())

    async def release(self, holder: SubjectSession) -> None:
        """Implement `SharedStore.release`."""
        subject, session = holder
        await self._ask(self._redis.zrem(self._key(subject), session))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _key(self, subject: str) -> str:
        return f"{self._prefix}sessions:{subject}"

    async def _ask(self, command: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await command
        except self._failures as error:
            raise StoreUnavailable(
                f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            ) from error


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _password(path: str) -> str | None:
    if not path:
        return None
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"store.password_file: {path}: cannot be read: {error}", field="store.password_file"
        ) from None
