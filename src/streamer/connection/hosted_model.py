"""One of several models of a server: loaded at the start or on first use, and let go when it is idle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum

from streamer.clock import Clock, Timer, timeout
from streamer.config.models import ModelSection
from streamer.errors import ErrorCode, ModelLoadError, Overloaded, StreamerError
from streamer.inference.contract import DeliverOutcome, EngineDepth, InferenceEngine, Readiness
from streamer.inference.settings import EngineSettings
from streamer.session.actions import Job, JobId
from streamer.session.settings import SessionSettings

STOP_TIMEOUT_S = 5.0
"""Time in seconds for the workers of an idle model to stop."""

log = logging.getLogger(__name__)


class ModelState(StrEnum):
    """State of one of several models."""

    UNLOADED = "unloaded"
    """Not loaded yet, or let go. The next session loads it."""
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    FAILED = "failed"
    """The last load has failed. A session after the pause tries again."""


class ModelUnavailable(StreamerError):
    """The model could not be loaded. `retry_after_s`: time until the next attempt."""

    code = ErrorCode.MODEL_ERROR

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class HostedModel:
    """One of several models, by its name. Implements `InferenceEngine` for the sessions inside of `use`."""

    def __init__(
        self,
        name: str,
        section: ModelSection,
        settings: EngineSettings,
        make_engine: Callable[[], InferenceEngine],
        clock: Clock,
        *,
        retry_after_s: float,
        applied_to: Callable[[SessionSettings], SessionSettings] = lambda settings: settings,
    ) -> None:
        """Create a model, which is not loaded yet.

        `make_engine`: called on a thread for each load; may raise ModelLoadError. `applied_to`: returns the settings of
        an endpoint for sessions of this model. `retry_after_s`: retry time of a refusal.
        """
        self.name = name
        self.applied_to = applied_to
        self.sessions = 0
        """Sessions that use the model, or wait for it."""
        self.refused = 0
        """Sessions refused: the model was full, still loading, or could not be loaded."""
        self.state = ModelState.UNLOADED
        self._section = section
        self._settings = settings
        self._make_engine = make_engine
        self._clock = clock
        self._retry_after_s = retry_after_s
        self._engine: InferenceEngine | None = None
        self._loading: asyncio.Task[None] | None = None
        self._unloading: asyncio.Task[None] | None = None
        self._idle: Timer | None = None
        self._error: ModelLoadError | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._stopping = False

    # Life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the model if it is loaded at the start. Raises ModelLoadError."""
        if self._section.load == "start":
            await self.load()

    async def load(self) -> None:
        """Load the model now. Raises ModelLoadError, with the reason."""
        await asyncio.wait({self._load()})
        if self._error is not None:
            raise ModelLoadError(f"models.{self.name}: {self._error.message}", detail=self._error.detail)

    async def stop(self, timeout_s: float) -> None:
        """Stop the workers, or the load, for good."""
        self._stopping = True
        self._stay()
        if self._loading is not None:
            self._loading.cancel()
        await asyncio.gather(*filter(None, (self._loading, self._unloading)), return_exceptions=True)
        self.state = ModelState.UNLOADED
        if self._engine is not None:
            await self._engine.stop(timeout_s)

    @asynccontextmanager
    async def use(self) -> AsyncIterator[None]:
        """Keep the model for one session; load it first if necessary.

        Raises the errors of `check_admission`, and Overloaded if the load takes too long.
        """
        self.check_admission()
        self.sessions += 1
        self._stay()
        try:
            await self._loaded()
            yield
        finally:
            self.sessions -= 1
            self._leave_when_idle()

    async def _loaded(self) -> None:
        if self.is_loaded:
            return
        try:
            async with timeout(self._clock, self._section.load_wait_s):
                await asyncio.wait({self._load()})
        except TimeoutError:
            self.refused += 1
            raise Overloaded(f"model {self.name!r} is being loaded", retry_after_s=self._retry_after_s) from None
        if self._stopping:
            raise StreamerError("the server is stopping", code=ErrorCode.DRAINING)
        if not self.is_loaded:
            raise self._unavailable()
        self._check_engine()

    def _load(self) -> asyncio.Task[None]:
        """Return the running load, or begin one. It does not raise."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._run_load(), name=f"load-{self.name}")
        return self._loading

    async def _run_load(self) -> None:
        started_at = self._clock.now()
        self._error = None
        try:
            if self._unloading is not None:  # the memory of two would be needed at once
                await self._unloading
            self.state = ModelState.LOADING
            self._engine = await asyncio.to_thread(self._make_engine)
            await self._engine.start()
        except StreamerError as error:
            self._fail(error if isinstance(error, ModelLoadError) else ModelLoadError(error.message))
        except Exception as error:
            log.exception("model %s: the load failed unexpectedly", self.name)
            if self._engine is not None:
                await self._engine.stop(STOP_TIMEOUT_S)
            self._fail(ModelLoadError(f"{type(error).__name__}: {error}"))
        else:
            self.state = ModelState.READY
            self._failures = 0
            log.info("model %s is loaded, in %.1f s", self.name, self._clock.now() - started_at)
        finally:
            self._loading = None
        self._leave_when_idle()

    def _fail(self, error: ModelLoadError) -> None:
        settings = self._settings
        pause_s = min(settings.max_restart_backoff_s, settings.restart_backoff_s * 2**self._failures)
        self._failures = min(self._failures + 1, 30)
        self._engine = None
        self._error, self._retry_at = error, self._clock.now() + pause_s
        self.state = ModelState.FAILED
        detail = f"\n{error.detail}" if error.detail else ""
        log.error("model %s could not be loaded, no attempt for %g s: %s%s", self.name, pause_s, error.message, detail)

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _leave_when_idle(self) -> None:
        """Let the model go after its time, unless a session comes before."""
        keep_s = self._section.keep_s
        if keep_s and not self.sessions and self.is_loaded and not self._stopping:
            self._stay()
            self._idle = self._clock.call_at(self._clock.now() + keep_s, self._unload)

    def _unload(self) -> None:
        engine, self._engine, self._idle = self._engine, None, None
        assert engine is not None
        self.state = ModelState.UNLOADING
        self._unloading = asyncio.create_task(self._run_unload(engine), name=f"unload-{self.name}")

    async def _run_unload(self, engine: InferenceEngine) -> None:
        try:
            await engine.stop(STOP_TIMEOUT_S)
        except Exception:
            log.exception("model %s did not stop cleanly", self.name)
        finally:
            self._unloading = None
        if self.state is ModelState.UNLOADING:  # no session has come meanwhile
            self.state = ModelState.UNLOADED
        log.info("model %s was let go: no session for %g s", self.name, self._section.keep_s)

    # State --------------------------------------------------------------------------------------

    @property
    def is_loaded(self) -> bool:
        return self.state is ModelState.READY

    @property
    def readiness(self) -> Readiness:
        """Whether a session can be accepted; a model that is not loaded is loaded for it."""
        if self.state is ModelState.FAILED and self._error is not None:
            return Readiness(False, f"could not be loaded: {self._error.message}")
        if self.is_loaded and self._engine is not None:
            return self._engine.readiness
        return Readiness(not self._stopping, self.state)

    @property
    def depth(self) -> EngineDepth:
        return self._engine.depth if self._engine is not None else EngineDepth(0, 0.0, 0, 0, 0, 0)

    def check_admission(self) -> None:
        """Raise Overloaded, naming the model, if it is full; ModelUnavailable after a failed load, until the next."""
        most = self._section.max_sessions
        if most and self.sessions >= most:
            self.refused += 1
            text = f"model {self.name!r} has reached its limit of {most} sessions"
            raise Overloaded(text, retry_after_s=self._retry_after_s)
        if self.state is ModelState.FAILED and self._retry_at > self._clock.now():
            raise self._unavailable()
        self._check_engine()

    def _unavailable(self) -> ModelUnavailable:
        self.refused += 1
        left_s = max(0.0, self._retry_at - self._clock.now())
        return ModelUnavailable(f"model {self.name!r} could not be loaded", retry_after_s=left_s)

    def _check_engine(self) -> None:
        if self.is_loaded and self._engine is not None:
            try:
                self._engine.check_admission()
            except Overloaded as full:
                self.refused += 1
                text = f"model {self.name!r}: {full.message}"
                raise Overloaded(text, retry_after_s=full.retry_after_s) from None

    # For sessions -------------------------------------------------------------------------------

    def submit(self, job: Job, deliver: DeliverOutcome) -> None:
        """Queue a job of a session inside of `use`, during which the engine stays."""
        assert self._engine is not None, "use() comes first"
        self._engine.submit(job, deliver)

    def cancel(self, session_id: str, job: JobId) -> None:
        if self._engine is not None:
            self._engine.cancel(session_id, job)

    def release(self, session_id: str, stream: int | None = None) -> None:
        if self._engine is not None:
            self._engine.release(session_id, stream)
