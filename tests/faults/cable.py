"""A cable that can be pulled: a network namespace of its own for a peer, and a link to it (needs root on Linux)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_THIRD, _LAST = divmod(os.getpid() % 2**14 * 4, 256)
HERE, THERE = (f"10.213.{_THIRD}.{_LAST + end}" for end in (1, 2))
"""Both ends, in a network of this process: several run these tests on one machine."""


@dataclass(frozen=True)
class Cable:
    """`HERE` is one end of it; the other is in the namespace."""

    namespace: str
    link: str

    def beyond(self, *command: str) -> list[str]:
        """A command, run at the other end."""
        return ["ip", "netns", "exec", self.namespace, *command]

    def pull(self) -> None:
        """From now on nothing comes through: no FIN, no RST, no answer; and neither end is told."""
        _ip("netns", "exec", self.namespace, "ip", "addr", "del", f"{THERE}/30", "dev", "eth0")
        _ip("netns", "exec", self.namespace, "ip", "link", "set", "eth0", "down")


@contextmanager
def cable() -> Iterator[Cable]:
    """Raises OSError where this machine does not allow it."""
    if shutil.which("ip") is None:
        raise OSError("the program ip is not there")
    name = f"streamer-{os.getpid()}"
    link = f"st{os.getpid()}"[:15]
    made = Cable(name, link)
    try:
        _ip("netns", "add", name)
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("addr", "add", f"{HERE}/30", "dev", link)
        _ip("link", "set", link, "up")
        for command in (("addr", "add", f"{THERE}/30", "dev", "eth0"), ("link", "set", "eth0", "up")):
            _ip("netns", "exec", name, "ip", *command)
        yield made
    finally:
        for command in (("link", "del", link), ("netns", "del", name)):
            with suppress(OSError):
                _ip(*command)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
