"""A temporary file with a bound."""

from __future__ import annotations

from typing import BinaryIO

from streamer.media.packets import DamagedMedia


class Spool:
    """A file that is written to its end, then read anywhere; the part of BinaryIO that a demuxer needs."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: bytes) -> int:
        """Append. Raises DamagedMedia past the bound."""
        if self._file.tell() + len(data) > self._max_bytes:
            raise DamagedMedia(
                f"MP4: expected at most {self._max_bytes} bytes in front of its index (limits.max_spool_bytes), got "
                "more; write the file with `-movflags +faststart`"
            )
        return self._file.write(data)

    def seek(self, position: int) -> int:
        return self._file.seek(position)

    def read(self, size: int) -> bytes:
        return self._file.read(size)
