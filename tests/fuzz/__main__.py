"""`make fuzz`: every target under atheris for its share of the minutes; the corpus grows by what reached new code.

What breaks a target is left in build/fuzz/TARGET-*; mend it, and put the input into tests/fuzz/corpus/TARGET/.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS

CORPUS = Path("tests/fuzz/corpus")
FOUND = Path("build/fuzz")
MAX_BYTES = 2_048


def fuzz(name: str, seconds: int) -> bool:
    """Whether it stood."""
    grown = FOUND / name
    grown.mkdir(parents=True, exist_ok=True)
    child = [sys.executable, "-m", "tests.fuzz.child", name, f"-artifact_prefix={FOUND}/{name}-"]
    limits = [f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", "-timeout=5", "-rss_limit_mb=2048"]
    run = subprocess.run(
        [*child, *limits, "-print_final_stats=1", "-verbosity=0", str(grown), str(CORPUS / name)],
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    executed = re.search(r"number_of_executed_units: (\d+)", run.stderr)
    print(f"{name:8} {int(executed[1]) if executed else 0:>12,} executions in {seconds} s", end="")
    if run.returncode:
        print(f": BROKEN\n{run.stderr[-3_000:]}")
        return False
    # Of what was found, keep the least that reaches all of it.
    merged = subprocess.run(
        [*child, "-merge=1", f"-max_len={MAX_BYTES}", str(CORPUS / name), str(grown)], capture_output=True, check=False
    )
    kept = len(list((CORPUS / name).iterdir()))
    print(f", {kept} inputs kept" if not merged.returncode else ", the corpus could not be merged")
    return True


def main() -> int:
    if importlib.util.find_spec("atheris") is None:
        print("skipped: atheris is not installed (`make fuzz` does, where there is a wheel of it)")
        return 0
    seconds = round(float(sys.argv[1]) * 60 / len(TARGETS))
    stood = [fuzz(name, seconds) for name in TARGETS]
    return 0 if all(stood) else 1


if __name__ == "__main__":
    sys.exit(main())
