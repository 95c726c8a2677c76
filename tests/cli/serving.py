"""`streamer serve` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

SERVE = [sys.executable, "-m", "streamer", "serve"]


def environment(**variables: str) -> dict[str, str]:
    """This process's, without settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}
    return kept | {"COLUMNS": "80"} | variables


def refused(*arguments: str, **variables: str) -> tuple[int, str]:
    """The exit code and what it said of a server that does not come up."""
    done = subprocess.run(
        [*SERVE, *arguments], env=environment(**variables), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


class Server:
    """A server that is ready."""

    def __init__(self, process: subprocess.Popen[str], url: str, before: str) -> None:
        self.process = process
        self.before = before
        """What it said before it listened."""
        self.url = url
        self.websocket_url = url.replace("http", "ws", 1)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self) -> tuple[int, str]:
        """The exit code, and what it said after the line that it listens."""
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


@contextmanager
def served(*arguments: str, within: Sequence[str] = (), **variables: str) -> Iterator[Server]:
    """A server on a free port, from the moment at which it says that it listens. `within`: a command that runs it."""
    process = subprocess.Popen(
        [*within, *SERVE, "--port", "0", *arguments],
        env=environment(**variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("listening on "):
                yield Server(process, line.split()[-1], "".join(said))
                break
        else:
            raise AssertionError(f"it never listened: {''.join(said)}")
    finally:
        process.kill()
        process.communicate()
