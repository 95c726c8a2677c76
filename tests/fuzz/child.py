"""One target under atheris: `python -m tests.fuzz.child TARGET [libFuzzer's arguments]`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import atheris


def main() -> None:
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["streamer", "jwt"]):
        from tests.fuzz.targets import TARGETS
    sys.argv[0] = _starter(name)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


def _starter(name: str) -> str:
    """libFuzzer merges in processes that it starts by argv[0], which has to be a program for that."""
    path = Path("build/fuzz") / f"{name}.sh"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tests.fuzz.child {name} "$@"\n')
    path.chmod(0o755)
    return str(path)


if __name__ == "__main__":
    main()
