"""The kernel's word to a process whose parent has died: it reaches one that is stopped, too."""

from __future__ import annotations

import ctypes
import sys
from signal import Signals

_PR_SET_PDEATHSIG = 1
"""See prctl(2), `linux/prctl.h`."""


def request_signal(number: Signals) -> None:
    """Have the kernel send this process a signal when its parent dies. Only Linux has it; elsewhere nothing happens.

    The parent is the thread that started this process, not the parent process: that thread has to live as long. A
    parent that has died before is not noticed: ask `os.getppid` afterwards.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
