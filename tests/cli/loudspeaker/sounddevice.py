"""A loudspeaker without a device, in place of the package: writes what it plays to the file LOUDSPEAKER.

LOUDSPEAKER_FAULT: the call that fails (`import`, `start`, `write`), or `slow`. A failed device also refuses `stop`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

FAULT = os.environ.get("LOUDSPEAKER_FAULT", "")

if FAULT == "import":
    raise OSError("PortAudio library not found")


class PortAudioError(Exception):
    pass


class RawOutputStream:
    def __init__(self, samplerate: float, *, channels: int, dtype: str) -> None:
        self._file = Path(os.environ["LOUDSPEAKER"]).open("wb")  # noqa: SIM115 (closed by `close`)
        self._writes = 0

    def start(self) -> None:
        if FAULT == "start":
            raise PortAudioError("Device unavailable [PaErrorCode -9985]")

    def write(self, data: bytes) -> None:
        self._writes += 1
        if FAULT == "write":
            raise PortAudioError("Unanticipated host error [PaErrorCode -9999]")
        if FAULT == "slow" and self._writes == 1:
            time.sleep(0.5)  # a device that does not take audio, while the server sends
        self._file.write(data)

    def stop(self) -> None:
        if FAULT in ("start", "write"):
            raise PortAudioError("Stream is stopped [PaErrorCode -9983]")

    def close(self) -> None:
        self._file.close()
