"""Signal on the death of the parent process, sent by the kernel; it also reaches a stopped process."""

from __future__ import annotations

import ctypes
import sys
from signal import Signals

_PR_SET_PDEATHSIG = 1
"""See prctl(2), `linux/prctl.h`."""


def request_signal(number: Signals) -> None:
    """Have the kernel send this process a signal when its parent dies. Only on Linux; elsewhere nothing happens.

    The parent is the thread that started this process, so that thread must stay alive. A parent that has died before is
    not noticed: check `os.getppid` afterwards.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
