"""`streamer bench` as a command."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from streamer.cli import app


def test_a_report_that_cannot_be_written_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "missing" / "report"
    done = CliRunner().invoke(app, ["bench", "--serve", "no_such_model", "--out", str(out)])
    assert done.exit_code == 1
    assert done.stderr == (
        f"error: --out: expected a name in a directory that can be written, got {out}.json: No such file or directory\n"
    )


def test_the_check_leaves_no_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "--serve", "no_such_model", "--out", str(tmp_path / "report")])
    assert done.exit_code == 1
    assert "no_such_model" in done.stderr
    assert not list(tmp_path.iterdir())
