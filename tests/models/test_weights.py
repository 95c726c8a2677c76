"""Where weights come from: a directory, an installed package, the cache, the hub; what breaks off, what is wrong.

The hub is a stand-in on loopback that speaks its HTTP interface.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamer.errors import ConfigError, ModelLoadError
from streamer.models.catalogue import CATALOGUE, Packaged
from streamer.models.weights import find_weights, packaged
from tests.models.hub import COMMIT, Hub, serving

NAME = "moonshine:base-en"
LARGE = "onnx/encoder_model.onnx"
FILES = {
    LARGE: bytes(range(256)) * 8_000,
    "onnx/decoder_model_merged_quantized.onnx": b"decoder" * 1_000,
    "tokenizer.json": b"{}",
    "README.md": b"not asked for",
}


def command(*arguments):
    return [sys.executable, "-m", "streamer", *arguments]


def environment(hub, cache, **variables):
    """This process's, with a cache of its own and no hub but the stand-in."""
    names = ("STREAMER_", "HF_", "HUGGING_FACE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    kept |= {"STREAMER_CACHE": str(cache), "HF_HOME": str(cache), "COLUMNS": "120", "NO_PROXY": "127.0.0.1"}
    return kept | {"HF_ENDPOINT": hub.endpoint if hub else "http://127.0.0.1:9"} | variables


def streamer(*arguments, hub=None, cache, **variables):
    """Run the command to its end: the exit code, stdout, stderr."""
    done = subprocess.run(
        command(*arguments), env=environment(hub, cache, **variables),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def hub():
    with serving(Hub(CATALOGUE[NAME].repository, FILES)) as hub:
        yield hub


def test_weights_are_fetched_once_and_then_come_from_the_cache(hub, tmp_path):
    code, out, err = streamer("models", "get", NAME, hub=hub, cache=tmp_path)
    assert code == 0, err
    found = Path(out.strip())
    assert {str(path.relative_to(found)) for path in found.rglob("*.*")} == FILES.keys() - {"README.md"}
    assert (found / LARGE).read_bytes() == FILES[LARGE]
    assert found.name == COMMIT
    assert "fetching the weights moonshine:base-en" in err
    fetched = len(hub.ranges)
    for variables in ({}, {"STREAMER_OFFLINE": "1"}):
        assert streamer("models", "get", NAME, cache=tmp_path, **variables)[:2] == (0, out)
    assert len(hub.ranges) == fetched
    assert "cache" in next(line for line in streamer("models", cache=tmp_path)[1].splitlines() if NAME in line)


def test_a_download_that_is_cut_goes_on_where_it_ended(hub, tmp_path):
    hub.break_after = 700_000
    code, out, err = streamer("models", "get", NAME, hub=hub, cache=tmp_path)
    assert code == 0, err
    assert (Path(out.strip()) / LARGE).read_bytes() == FILES[LARGE]
    assert [asked for name, asked in hub.ranges if name == LARGE] == ["", "bytes=700000-", "bytes=1400000-"]


def test_another_process_goes_on_with_what_a_killed_one_left(hub, tmp_path):
    hub.hold_after = 700_000
    with subprocess.Popen(
        command("models", "get", NAME),
        env=environment(hub, tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert hub.held.wait(60)
        part = next(iter(tmp_path.rglob("*.part")))
        while part.stat().st_size < 500_000:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.communicate()
    here = part.stat().st_size
    hub.hold_after = None
    code, out, err = streamer("models", "get", NAME, hub=hub, cache=tmp_path)
    assert code == 0, err
    assert (Path(out.strip()) / LARGE).read_bytes() == FILES[LARGE]
    assert [asked for name, asked in hub.ranges if name == LARGE] == ["", f"bytes={here}-"]


def test_a_server_that_knows_no_ranges_sends_the_file_anew(hub, tmp_path):
    hub.break_after, hub.ranged = 1_500_000, False
    hub.breaks = 1
    code, out, err = streamer("models", "get", NAME, hub=hub, cache=tmp_path)
    assert code == 0, err
    assert (Path(out.strip()) / LARGE).read_bytes() == FILES[LARGE]


def test_a_file_with_a_wrong_digest_is_refused_and_not_kept(hub, tmp_path):
    right = hub.files[LARGE]
    hub.files[LARGE] = right[:-1] + b"?"
    for _ in range(2):
        code, out, err = streamer("models", "get", NAME, hub=hub, cache=tmp_path)
        assert (code, out) == (1, "")
        assert "encoder_model.onnx from" in err
        assert "is not the file that the hub announced" in err
    hub.files[LARGE] = right
    assert streamer("models", "get", NAME, hub=hub, cache=tmp_path)[0] == 0


def test_offline_never_asks_the_network(hub, tmp_path):
    for arguments, variables in (
        (("models", "get", NAME), {"STREAMER_OFFLINE": "1"}),
        (("serve", NAME, "--offline", "--port", "0"), {}),
    ):
        code, _, err = streamer(*arguments, hub=hub, cache=tmp_path, **variables)
        assert code != 0
        assert "are not on this machine and STREAMER_OFFLINE is set" in err
    assert hub.ranges == []


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path):
    code, _, err = streamer("serve", NAME, "--port", "0", cache=tmp_path)
    assert code == 2
    [line] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "could not be fetched from" in line
    assert "streamer models get moonshine:base-en on a machine with a network" in line


def test_another_repository_of_the_hub_is_fetched_by_its_name(tmp_path):
    with serving(Hub("someone/else", FILES)) as hub:
        code, out, err = streamer("models", "get", "moonshine:someone/else", hub=hub, cache=tmp_path)
    assert code == 0, err
    assert (Path(out.strip()) / "tokenizer.json").is_file()


def test_a_directory_goes_before_all(tmp_path):
    assert find_weights("moonshine", str(tmp_path), ()) == tmp_path


@pytest.mark.parametrize("name", ["huge-en", "a/b/c", "/nowhere", "./nowhere"])
def test_weights_that_are_not_known_are_refused_with_those_that_are(name):
    with pytest.raises(ConfigError, match=r"model\.weights: expected .*directory.*, got '") as caught:
        find_weights("moonshine", name, ())
    assert name.startswith((".", "/")) or "tiny-en, base-en" in caught.value.message


def test_a_packages_file_with_a_wrong_digest_is_refused(tmp_path, monkeypatch):
    (tmp_path / "weights_package" / "inside").mkdir(parents=True)
    (tmp_path / "weights_package" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "weights_package" / "inside" / "model.bin").write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    source = Packaged("weights_package", "weights-package==1", "inside", {"model.bin": "0" * 64})
    with pytest.raises(ModelLoadError, match=r"model\.bin from the package weights_package is not the file"):
        packaged(source)
    assert packaged(Packaged("weights_package", "", "elsewhere", {"model.bin": "0" * 64})) is None
    assert packaged(Packaged("no_such_package", "", "inside", {"model.bin": "0" * 64})) is None


def test_the_list_shows_every_name_in_full_on_a_narrow_terminal(tmp_path: Path) -> None:
    code, out, _ = streamer("models", cache=tmp_path, COLUMNS="80")
    assert code == 0
    words = set(out.split())
    assert [name for name in CATALOGUE if name not in words] == []
