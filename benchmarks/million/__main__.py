"""Run the scenes, write results, figure and tables: `python -m benchmarks.million` (`--draw`: from the last run)."""

from __future__ import annotations

import argparse

from benchmarks.million.figures import draw
from benchmarks.million.plan import Plan
from benchmarks.million.results import PAGE, load, run, save, written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draw", action="store_true", help="do not run anything")
    if not parser.parse_args().draw:
        save(run(Plan()))
    results = load()
    draw(results)
    PAGE.write_text(written(PAGE.read_text(), results))


if __name__ == "__main__":
    main()
