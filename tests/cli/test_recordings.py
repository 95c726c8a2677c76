"""Recordings behind a URL, for the commands that read them as a whole."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import as_file
from pathlib import Path

import pytest

from streamer.cli.recordings import file_name, read_recording
from streamer.errors import StreamerError
from streamer.samples import sample
from tests.cli.serving import environment

MODEL = """
import streamer

@streamer.model
def answer(samples):
    return {"text": "words"}
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    """The address of the packaged recording's directory."""
    with as_file(sample()) as path:
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(path.parent)))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def run(*arguments: object) -> tuple[int, str, str]:
    """The exit code, stdout, stderr of a command."""
    done = subprocess.run(
        [sys.executable, "-m", "streamer", *map(str, arguments)],
        env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_url_is_the_recording_behind_it(url: str) -> None:
    with as_file(sample()) as path:
        here, there = read_recording(str(path)), read_recording(f"{url}/weather.wav?token=a%2Fb")
    assert (there.samples == here.samples).all()
    assert (there.sample_rate, there.subtype) == (here.sample_rate, here.subtype)


def test_the_name_of_a_url_is_its_last_part() -> None:
    assert file_name("https://example.com/talks/a%20b.wav?sig=x/y#t=1") == "a b.wav"
    assert file_name("talks/a.wav") == "a.wav"


def test_a_url_without_audio_is_named_as_it_was_given(url: str, unused_tcp_port: int) -> None:
    with pytest.raises(StreamerError, match=rf"^{url}/none\.wav: expected audio, got HTTP 404"):
        read_recording(f"{url}/none.wav")
    with pytest.raises(StreamerError, match=rf"^http://127\.0\.0\.1:{unused_tcp_port}/a: cannot be downloaded: "):
        read_recording(f"http://127.0.0.1:{unused_tcp_port}/a")
    with pytest.raises(StreamerError, match=r"^http://\[/: cannot be downloaded: "):
        read_recording("http://[/")
    with pytest.raises(StreamerError, match=rf"^{url}/__init__\.py: cannot be read as audio"):
        read_recording(f"{url}/__init__.py")


def test_transcribe_takes_a_url(url: str, tmp_path: Path) -> None:
    (tmp_path / "answers.py").write_text(MODEL)
    model = f"{tmp_path / 'answers.py'}:answer"
    arguments = ("--model", model, "-f", "srt", "-o", tmp_path / "out")
    code, out, err = run("transcribe", f"{url}/weather.wav?a=1", f"{url}/none.wav", *arguments)
    assert (code, out) == (1, "")
    assert err.splitlines()[0].startswith(f"error: {url}/none.wav: expected audio, got HTTP 404")
    assert "words" in (tmp_path / "out" / "weather.srt").read_text()


def test_vad_takes_a_url(url: str) -> None:
    code, out, err = run("vad", f"{url}/weather.wav")
    assert code == 0, err
    assert out.startswith("weather.wav")
    assert run("vad", f"{url}/none.wav")[0] == 2
