"""`streamer check` measures a real model in its executor and says what follows."""

import asyncio
import io
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from rich.console import Console

from streamer.cli.check import show
from streamer.cli.profiling import BatchTiming, ModelProfile, SampleAnswer, profile_model
from streamer.inference.model_config import ModelConfig
from streamer.inference.process_profile import ProcessProfile
from streamer.models.loading import ModelSpec
from streamer.models.stub import Stub
from tests.cli.serving import environment


def shown(findings):
    out = io.StringIO()
    show(findings, Console(file=out, width=100))
    return out.getvalue()


def found(paces, *, gil_free=1.0, cores_used=1.0, error="", cores=4):
    probed = ProcessProfile(0.5, 100 * 2**20, cores_used, gil_free)
    answers = [SampleAnswer("recording", 0.1, "" if error else "{}", error)]
    return ModelProfile(ModelConfig.of(Stub()), probed, "", answers, paces, cores)


def test_stub_is_tried_on_every_input_and_batch_size():
    findings = asyncio.run(profile_model(ModelSpec("stub", {"delay": 0.1, "max_batch_size": 3})))
    assert findings.is_working
    assert [(answer.input, answer.output) for answer in findings.answers] == [
        (name, '{"count":40000}') for name in ("silence", "noise", "recording")
    ]
    assert [pace.size for pace in findings.timings] == [1, 2, 3]
    assert findings.timings[2].item_s < findings.timings[0].item_s
    assert findings.process is not None
    text = shown(findings)
    assert re.search(r"recording\s+│ yes", text)
    assert "max_batch_size = 3" in text


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_model_is_built_once_in_each_process_that_looks_at_it(tmp_path, executor):
    log = tmp_path / "built"
    spec = ModelSpec("tests.inference.models:CountingModel", {"log": log, "executor": executor, "workers": 3})
    findings = asyncio.run(profile_model(spec))
    assert findings.is_working
    assert findings.config.workers == 3
    counts = Counter(map(int, log.read_text().split()))
    assert counts.pop(os.getpid()) == 1
    assert list(counts.values()) == ([1] if executor == "thread" else [1, 1])


def test_model_that_fails_is_told_and_gets_no_advice():
    findings = asyncio.run(profile_model(ModelSpec("stub", {"failure_rate": 1.0})))
    assert not findings.is_working
    text = shown(findings)
    assert "Unexpected inference failure" in text
    assert "Suggested" not in text


@pytest.mark.parametrize(
    ("findings", "executor", "workers", "size"),
    [
        (found([BatchTiming(1, 0.1)], gil_free=0.95), "thread", 4, 1),
        (found([BatchTiming(1, 0.1)], gil_free=0.05), "process", 4, 1),
        (found([BatchTiming(1, 0.1)], gil_free=0.95, cores_used=2.0), "thread", 2, 1),
        (found([BatchTiming(1, 0.001)], gil_free=0.45), "thread", 1, 1),
        (
            found([BatchTiming(1, 0.1), BatchTiming(2, 0.11), BatchTiming(4, 0.12), BatchTiming(8, 0.235)]),
            "thread",
            4,
            4,
        ),
        (found([BatchTiming(1, 0.1), BatchTiming(2, 0.19), BatchTiming(4, 0.37)]), "thread", 4, 1),
    ],
)
def test_advice_follows_from_the_measurements(findings, executor, workers, size):
    advice = findings.recommendation
    assert (advice.executor, advice.workers, advice.batch_size) == (executor, workers, size)


def test_streams_are_bounded_by_the_model_or_by_the_server():
    assert found([BatchTiming(1, 0.25)], cores=2).recommendation.streams == 14  # 0.7 * 2 workers / (0.25 s / 2.5 s)
    assert found([BatchTiming(1, 0.0001)]).recommendation.streams == 350  # 0.7 / 2 ms


def run(*arguments):
    command = [sys.executable, "-m", "streamer", "check", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)


def test_command_prints_the_tables():
    done = run("--set", "model.delay=0.001")
    assert (done.returncode, done.stderr) == (0, "")
    assert "live streams" in done.stdout


def test_command_says_in_one_line_what_it_cannot_load():
    done = run("no_such_model")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no model 'no_such_model'")
    assert len(done.stderr.splitlines()) == 1


def test_an_error_in_the_model_is_shown_with_the_line_and_traceback_of_its_author(tmp_path):
    path = tmp_path / "live.py"
    path.write_text(
        "import streamer\nclass Live(streamer.Model):\n    def infer(self, batch):\n"
        "        if batch[0].session_id:\n            raise ValueError('live only')\n        return [1]\n"
    )
    findings = asyncio.run(profile_model(ModelSpec(f"{path}:Live")))
    assert not findings.is_working
    assert findings.answers[0].error == f"ValueError: live only ({path}, line 5)"
    text = shown(findings)
    assert "on silence, noise, recording:" in text
    assert f'File "{path}", line 5, in infer' in text
    assert text.count("Traceback") == 1
    assert "Internal server error" not in text


def test_a_model_that_hangs_is_given_up_at_its_own_time(tmp_path):
    path = tmp_path / "hangs.py"
    path.write_text(
        "import threading, streamer\n"
        "class Hangs(streamer.Model):\n"
        "    timeout_floor_s = 0.01\n"
        "    timeout_factor = 0.0\n"
        "    def infer(self, batch):\n"
        "        return threading.Event().wait()\n"
    )
    done = run(f"{path}:Hangs")
    assert done.returncode == 2
    assert done.stderr.endswith("the first call, on 1 s of silence, took more than 0.01 s\n")


def test_a_model_on_ray_stays_there():
    findings = found([BatchTiming(1, 0.1)], gil_free=0.05)
    assert replace(findings, config=replace(findings.config, executor="ray")).recommendation.executor == "ray"
