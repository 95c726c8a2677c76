"""Errors in a model as its author reads them: the traceback of their own code, and the line to change."""

from __future__ import annotations

import importlib
import inspect
import traceback
from pathlib import Path

from streamer.errors import ConfigError, ModelFailed, ModelLoadError, StreamerError

_PACKAGE = str(Path(__file__).resolve().parent.parent)
_IMPORT_SYSTEM = ("<frozen ", str(Path(importlib.__file__).parent))
MAX_MESSAGE = 400


class ContractBroken(Exception):
    """A model that does not fit the model interface. The message says what was expected, what came, and its place."""


class BadOutput(ModelFailed):
    """An output that cannot be sent: it is not JSON, too big, too deep, or one of too many."""


def author_traceback(error: BaseException) -> str:
    """Format an error, without the frames of this package and of the import system that led to the author's code.

    An error without any frame of theirs is formatted in full. Of a ModelLoadError or ConfigError the message is enough.
    """
    if isinstance(error, ModelLoadError | ConfigError):
        return error.message
    formatted = traceback.TracebackException.from_exception(error)
    if not _strip(formatted) and not isinstance(error, ContractBroken | StreamerError | SyntaxError):
        formatted = traceback.TracebackException.from_exception(error)
    return "".join(formatted.format())


def error_line(error: BaseException) -> str:
    """Return an error as one line, with the file and line of the author's code in which it was raised."""
    text = " ".join(str(error).split())
    if isinstance(error, ContractBroken | StreamerError):
        return text[:MAX_MESSAGE]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_author(frame)]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames and not _has_place(error) else ""
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return line[: MAX_MESSAGE - len(where)] + where


def place_of(function: object) -> str:
    """Return `function() in FILE, line N`, as far as it is known."""
    function = inspect.unwrap(getattr(function, "__func__", function))  # type: ignore[arg-type]
    name = f"{getattr(function, '__qualname__', type(function).__qualname__)}()"
    try:
        return f"{name} in {inspect.getsourcefile(function)}, line {inspect.getsourcelines(function)[1]}"  # type: ignore[arg-type]
    except (OSError, TypeError):  # no source: written at a prompt, or not in Python
        return name


def _has_place(error: BaseException) -> bool:
    return isinstance(error, SyntaxError)  # its text has the place


def _is_author(frame: traceback.FrameSummary) -> bool:
    return not frame.filename.startswith((_PACKAGE, *_IMPORT_SYSTEM))


def _strip(formatted: traceback.TracebackException) -> bool:
    """Remove the frames before the author's; return whether there is one of theirs."""
    found = False
    for cause in (formatted.__cause__, formatted.__context__):
        if cause is not None:
            found |= _strip(cause)
    frames = list(formatted.stack or ())
    first = next((index for index, frame in enumerate(frames) if _is_author(frame)), None)
    if first is None:
        formatted.stack = None  # type: ignore[assignment] # leaves out the heading, too
        return found
    formatted.stack = traceback.StackSummary.from_list(frames[first:])
    return True
