"""`make conformance`: Autobahn's fuzzing client against an echo on our WebSocket settings; its verdicts as a table.

Autobahn's test suite runs on Python 2.7 alone. Where none is found (PYTHON2, python2.7, pyenv) it is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = Path("build/conformance")
SUITE = "autobahntestsuite==0.8.2"
STRAIGHT = {"OK", "INFORMATIONAL"}


def python2() -> str | None:
    """A Python 2.7, if there is one."""
    candidates = [os.environ.get("PYTHON2"), shutil.which("python2.7"), shutil.which("python2")]
    candidates += [str(path) for path in Path.home().glob(".pyenv/versions/2.7*/bin/python")]
    for candidate in candidates:
        if (
            candidate
            and subprocess.run([candidate, "-c", "import ssl"], capture_output=True, check=False).returncode == 0
        ):
            return candidate
    return None


def installed(python: str) -> Path | None:
    """The folder with the suite in it; None where it cannot be had."""
    folder = FOLDER / "suite"
    if not (folder / "autobahntestsuite").is_dir():
        command = [python, "-m", "pip", "install", "--quiet", "--target", str(folder), SUITE]
        if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode != 0:
            return None
    return folder


@contextmanager
def echoing() -> Iterator[str]:
    """The server under test, in a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", "tests.conformance.echo"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"ws://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.communicate()


def run_suite(python: str, suite: Path) -> dict[str, dict[str, Any]]:
    """All cases but those of compression, which is off: case to verdict."""
    reports = (FOLDER / "reports").absolute()
    shutil.rmtree(reports, ignore_errors=True)
    specification = FOLDER / "fuzzingclient.json"
    with echoing() as url:
        servers = [{"agent": "streamer", "url": url}]
        specification.write_text(
            json.dumps({"outdir": str(reports), "servers": servers, "cases": ["*"], "exclude-cases": ["12.*", "13.*"]})
        )
        # addsitedir, not PYTHONPATH: namespace packages of that age come with .pth files.
        start = f"import site; site.addsitedir({str(suite)!r}); from autobahntestsuite.wstest import run; run()"
        command = [python, "-c", start, "-m", "fuzzingclient", "-s", str(specification)]
        with (FOLDER / "log").open("w") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log)
    verdicts: dict[str, dict[str, Any]] = json.loads((reports / "index.json").read_text())["streamer"]
    return verdicts


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    python = python2()
    suite = installed(python) if python else None
    if python is None or suite is None:
        print(f"skipped: {SUITE} cannot be had here (it needs Python 2.7; PYTHON2 may name one)")
        return 0
    verdicts = run_suite(python, suite)
    for part in ("behavior", "behaviorClose"):
        counts = Counter(verdict[part] for verdict in verdicts.values())
        print(f"{part}: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()))
    odd = {case: v for case, v in verdicts.items() if {v["behavior"], v["behaviorClose"]} - STRAIGHT}
    for case in sorted(odd, key=lambda name: [int(part) for part in name.split(".")]):
        print(f"{case}: {odd[case]['behavior']}, close {odd[case]['behaviorClose']} ({odd[case]['remoteCloseCode']})")
    known = Path("docs/reference/conformance.md").read_text()
    unexplained = [case for case in odd if f"| {case} |" not in known]
    if unexplained:
        print(f"not explained in docs/reference/conformance.md: {', '.join(unexplained)}")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
