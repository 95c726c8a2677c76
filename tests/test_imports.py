"""`import streamer` stays light: what is heavy is imported where it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import streamer

HEAVY = (
    "aiohttp", "uvloop", "soxr", "soundfile", "pydantic", "pydantic_settings", "matplotlib", "onnx", "onnxruntime",
    "scipy", "grpc", "opentelemetry", "prometheus_client", "psutil", "rich", "typer", "pocketsphinx",
)  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in memory after a statement in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    return set(done.stdout.split())


def test_import_of_the_package_loads_nothing_heavy() -> None:
    heavy = loaded_by("import streamer") & set(HEAVY)
    assert not heavy, f"`import streamer` loads {sorted(heavy)}: import them where they are used"


def test_help_loads_nothing_heavy_but_the_command_line() -> None:
    heavy = loaded_by("import streamer.cli") & set(HEAVY) - {"typer", "rich"}
    assert not heavy, f"`import streamer.cli` loads {sorted(heavy)}: import them inside the commands"


def test_every_public_name_is_there() -> None:
    loaded_by("import streamer\nfor name in getattr(streamer, '__all__', []): getattr(streamer, name)")


def test_an_old_name_still_works_and_says_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match=r"streamer\.Segment is called streamer\.AudioSegment now"):
        assert streamer.Segment is streamer.AudioSegment
