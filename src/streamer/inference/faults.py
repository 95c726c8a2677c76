"""Errors of a model as faults: a message that is safe for a client, and a detail for the log."""

from __future__ import annotations

from streamer.errors import ErrorCode, ModelFailed, StreamerError
from streamer.inference.worker_protocol import Fault
from streamer.models.author_errors import BadOutput, author_traceback, error_line

FAILED = "the model failed on this segment"
UNCAUGHT = "Internal server error"
"""Error message for a client if the model's call raised; it shows nothing of the error."""

MAX_DETAIL = 4_000


STOPPING = Fault(ErrorCode.DRAINING, "the server is stopping")
UNANSWERED = Fault(ErrorCode.MODEL_ERROR, UNCAUGHT, "the call ended without an answer for this item")


def fault_of_loss(reason: str, *, hung: bool, restarts_at_s: float | None) -> Fault:
    """Return the fault of a job whose worker was lost. `restarts_at_s`: if the state of its stream is lost, too."""
    message = "the model took too long for this segment" if hung else "the model crashed on this segment"
    if restarts_at_s is not None:
        message += f"; the model's state for this stream was lost, processing restarts at {restarts_at_s:.3f} s"
    return Fault(ErrorCode.MODEL_TIMEOUT if hung else ErrorCode.MODEL_CRASHED, message, reason, reason)


def fault_of(error: BaseException, message: str = FAILED) -> Fault:
    """Return an error of the model as a client-safe message and a detail for the log."""
    detail = author_traceback(error)[-MAX_DETAIL:].rstrip()
    if isinstance(error, StreamerError):
        intended = isinstance(error, ModelFailed) and not isinstance(error, BadOutput)
        return Fault(error.code, error.message, detail, error_line(error), intended)
    return Fault(ErrorCode.MODEL_ERROR, message, detail, error_line(error))
