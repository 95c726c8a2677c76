"""Reader of multipart forms (RFC 7578) as they arrive: every part is bounded, and a file comes in pieces. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from streamer.errors import BadRequest

MAX_PARTS = 64
MAX_FIELD_BYTES = 16 * 1024
"""Maximum length of the value of a field."""
MAX_HEAD_BYTES = 8 * 1024
"""Maximum length of the headers of a part."""
_PARAMETER = re.compile(r';\s*([A-Za-z*]+)\s*=\s*(?:"((?:[^"\\\r\n]|\\.)*)"|([^;"\s]*))')
_LINE = b"\r\n"
_MAX_BOUNDARY = 200
_MAX_PADDING = 64
"""Blanks that may follow a boundary in its line."""


@dataclass(frozen=True, slots=True)
class FormField:
    """A field with its value."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FormFile:
    """The beginning of a file."""

    name: str
    filename: str


FormItem = FormField | FormFile | bytes
"""A field, the beginning of a file, or the next bytes of the file that has begun."""


class _Place(Enum):
    BOUNDARY = "boundary"
    """Behind a boundary, which ends its line or the form."""
    HEAD = "head"
    SKIPPED = "skipped"
    """In front of the first boundary."""
    FIELD = "field"
    FILE = "file"
    END = "end"


class FormReader:
    """Parses the body of one form. It may be cut anywhere, which changes nothing but the pieces of a file."""

    def __init__(self, content_type: str, *, file: str = "file") -> None:
        """Read the boundary of a Content-Type. `file`: name of the part that is a file even without a filename.

        Raises BadRequest if it is another type.
        """
        kind, _, _ = content_type.partition(";")
        boundary = _parameters(content_type).get("boundary", "")
        if kind.strip().lower() != "multipart/form-data" or not 1 <= len(boundary) <= _MAX_BOUNDARY:
            raise BadRequest(field="Content-Type", expected="multipart/form-data with a boundary", got=content_type)
        self._delimiter = b"\r\n--" + boundary.encode("utf-8", "surrogateescape")
        self._buffer = bytearray(_LINE)  # the first boundary has no line before it
        self._place = _Place.SKIPPED
        self._file = file
        self._name = ""
        self._parts = 0

    def push(self, data: bytes) -> list[FormItem]:
        """Take bytes of the body; return the items that are complete. Raises BadRequest, naming the part."""
        if self._place is _Place.END:
            return []
        self._buffer += data
        items: list[FormItem] = []
        while self._step(items):
            pass
        return items

    def finish(self) -> None:
        """Note the end of the body. Raises BadRequest if the form is incomplete."""
        if self._place is not _Place.END:
            raise BadRequest("the form is incomplete: expected its last boundary, got the end of the request")

    def _step(self, items: list[FormItem]) -> bool:
        """Read what the place expects; return False if more bytes are needed, or after the end."""
        match self._place:
            case _Place.END:
                self._buffer.clear()
                return False
            case _Place.BOUNDARY:
                return self._pass_boundary()
            case _Place.HEAD:
                return self._take_head(items)
            case _Place.FIELD:
                return self._take_field(items)
            case _:
                return self._take_bytes(items)

    def _pass_boundary(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        if buffer.startswith(b"--"):
            self._place = _Place.END
            return True
        end = buffer.find(_LINE)
        if end < 0 and len(buffer) <= _MAX_PADDING:
            return False
        if end < 0 or buffer[:end].strip():
            raise BadRequest("the form is damaged: expected the end of a line after a boundary")
        del buffer[:end]
        self._place = _Place.HEAD
        return True

    def _take_head(self, items: list[FormItem]) -> bool:
        """Read the headers of a part. The buffer begins with the end of the boundary's line."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n")
        if max(end, len(buffer) if end < 0 else 0) > MAX_HEAD_BYTES:
            raise BadRequest(f"the form is damaged: expected headers of at most {MAX_HEAD_BYTES} bytes in each part")
        if end < 0:
            return False
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BadRequest(f"the form is too long: expected at most {MAX_PARTS} parts")
        parameters = _disposition(bytes(buffer[:end]))
        del buffer[: end + 4]
        self._name = parameters["name"]
        filename = parameters.get("filename")
        if filename is None and self._name != self._file:
            self._place = _Place.FIELD
        else:
            self._place = _Place.FILE
            items.append(FormFile(self._name, filename or ""))
        return True

    def _take_field(self, items: list[FormItem]) -> bool:
        buffer = self._buffer
        end = buffer.find(self._delimiter)
        if max(end, len(buffer) - len(self._delimiter) if end < 0 else 0) > MAX_FIELD_BYTES:
            raise BadRequest(field=self._name, expected=f"at most {MAX_FIELD_BYTES} bytes", got="more")
        if end < 0:
            return False
        try:
            value = buffer[:end].decode()
        except UnicodeDecodeError:
            raise BadRequest(field=self._name, expected="text in UTF-8", got=bytes(buffer[:end][:20])) from None
        items.append(FormField(self._name, value))
        self._leave(end)
        return True

    def _take_bytes(self, items: list[FormItem]) -> bool:
        """Pass on the bytes of a file, but those that may begin a boundary; skip those of the preamble."""
        buffer = self._buffer
        end = buffer.find(self._delimiter)
        ready = end if end >= 0 else len(buffer) - len(self._delimiter) + 1
        if ready > 0 and self._place is _Place.FILE:
            items.append(bytes(buffer[:ready]))
        if end >= 0:
            self._leave(end)
            return True
        del buffer[: max(0, ready)]
        return False

    def _leave(self, end: int) -> None:
        """Drop a part up to its `end`, and the boundary behind it."""
        del self._buffer[: end + len(self._delimiter)]
        self._place = _Place.BOUNDARY


def _disposition(head: bytes) -> dict[str, str]:
    """Return the parameters of a part's Content-Disposition. Raises BadRequest without a name."""
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            parameters = _parameters(value)
            if parameters.get("name") and value.strip().lower().startswith("form-data"):
                return parameters
    raise BadRequest("the form is damaged: expected a Content-Disposition with a name in each part")


def _parameters(value: str) -> dict[str, str]:
    """Return the parameters of a header's value, by their names in lower case."""
    found: dict[str, str] = {}
    for name, quoted, plain in _PARAMETER.findall(value):
        found.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) if quoted else plain)
    return found
