"""Assembly of WebSocket messages from their fragments (RFC 6455, 5.4)."""

from __future__ import annotations

from websockets.frames import Opcode

from streamer.transports.frames import FrameError

INVALID_UTF8 = 1007


class MessageAssembler:
    """Joins the fragments of messages. Empty ones need no memory; the frame parser limits the total."""

    def __init__(self) -> None:
        self._pieces: bytearray | None = None
        self._is_text = False

    @property
    def nbytes(self) -> int:
        """Bytes of the pieces of a message whose end has not come."""
        return len(self._pieces) if self._pieces is not None else 0

    def add(self, opcode: Opcode, data: bytes, is_last: bool) -> str | bytes | None:
        """Return the message that this fragment completes, text as str; None if it is incomplete.

        Raises FrameError if text is not UTF-8.
        """
        if opcode is not Opcode.CONT:
            self._is_text = opcode is Opcode.TEXT
        if self._pieces is not None:
            self._pieces += data
        elif not is_last:
            self._pieces = bytearray(data)
        if not is_last:
            return None
        if self._pieces is not None:
            data, self._pieces = bytes(self._pieces), None
        if not self._is_text:
            return data
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            text = f"expected text in UTF-8, got byte {data[error.start]:#04x} at {error.start}"
            raise FrameError(INVALID_UTF8, text) from None
