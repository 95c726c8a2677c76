"""A model is found by built-in name, import path or file; whatever is wrong is said in one line."""

import pickle
import sys
import textwrap

import pytest

from streamer.errors import ConfigError, ModelLoadError
from streamer.models.contract import FunctionModel
from streamer.models.loading import BUILT_IN, WITH_WEIGHTS, ModelSpec, load_model
from streamer.models.stub import Stub

SHELF = "tests.models.shelf"


@pytest.fixture(autouse=True)
def _sys_path(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_built_in_name_is_found():
    assert isinstance(load_model("stub"), Stub)


def test_every_built_in_name_imports_without_its_package_or_weights():
    for name in BUILT_IN:
        if name in ("stub", "pocketsphinx", *WITH_WEIGHTS):
            load_model(name)
        else:
            with pytest.raises(ConfigError, match=r"model\.directory"):
                load_model(name)


def test_decorated_function_is_found():
    found = load_model(f"{SHELF}:peak")
    assert isinstance(found, FunctionModel)
    assert found.sample_rate == 8_000


def test_class_is_built_with_parameters():
    assert load_model(f"{SHELF}:Scaled", {"gain": 2}).gain == 2.0


def test_text_from_the_environment_becomes_a_number():
    assert load_model(f"{SHELF}:Scaled", {"gain": "2.5"}).gain == 2.5


def test_factory_is_called_with_parameters():
    assert load_model(f"{SHELF}:factory", {"gain": 4.0}).gain == 4.0
    assert load_model(f"{SHELF}:factory").gain == 3.0


def test_settings_of_every_model_are_set_from_parameters():
    found = load_model(f"{SHELF}:Scaled", {"gain": 1.0, "workers": 3, "executor": "process"})
    assert (found.workers, found.executor) == (3, "process")
    assert load_model("stub", {"delay": 0.5, "max_batch_size": 8}).max_batch_size == 8
    assert load_model(f"{SHELF}:Bare", {"workers": 2}).workers == 2


def test_built_instance_is_taken_as_it_is():
    assert load_model(f"{SHELF}:built").gain == 2.0


def test_file_is_loaded_once_and_may_import_its_neighbours(tmp_path):
    (tmp_path / "helper_of_mine.py").write_text("GAIN = 5.0\n")
    (tmp_path / "mine.py").write_text(
        textwrap.dedent("""
        import streamer.models.contract as s
        from helper_of_mine import GAIN
        class Mine(s.Model):
            gain = GAIN
    """)
    )
    first = load_model(f"{tmp_path}/mine.py:Mine")
    second = load_model(f"{tmp_path}/mine.py:Mine")
    assert first.gain == 5.0
    assert type(first) is type(second)
    del sys.modules["helper_of_mine"]


def test_current_directory_is_importable(tmp_path, monkeypatch):
    (tmp_path / "here_it_is.py").write_text(
        "import streamer.models.contract as s\n@s.model()\ndef f(samples): return 1\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert load_model("here_it_is:f").name == "f"


def test_spec_survives_pickling():
    spec = ModelSpec(f"{SHELF}:Scaled", {"gain": 2.0})
    assert pickle.loads(pickle.dumps(spec)).load().gain == 2.0


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nothing", "no model 'nothing': expected package.module:name"),
        ("", "no model ''"),
        ("no_such_module:x", "no module named 'no_such_module'"),
        ("tests.models.nothing_here:x", "no module named 'tests.models.nothing_here'"),
        ("/no/such/file.py:x", "no file '/no/such/file.py'"),
        (f"{SHELF}:Absent", "has no 'Absent'; models found there: Bare, Broken, Scaled, built, peak"),
        (f"{SHELF}:not_a_model", "expected a model, its class or a factory, got 7"),
        (f"{SHELF}:undecorated", "needs @streamer.model above it"),
        (f"{SHELF}:wrong", "expected a Model or StreamingModel, got 5"),
        (f"{SHELF}:Broken", "building it failed: OSError: no weights at /nowhere"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(spec, words):
    with pytest.raises(ModelLoadError) as failure:
        load_model(spec)
    assert words in str(failure.value)
    assert "\n" not in str(failure.value)


def test_error_inside_the_users_module_is_told(tmp_path):
    (tmp_path / "bad.py").write_text("import torch_is_not_here\n")
    with pytest.raises(ModelLoadError, match="importing it failed: ModuleNotFoundError: No module named 'torch_is_not"):
        load_model(f"{tmp_path}/bad.py:x")


@pytest.mark.parametrize(
    ("spec", "parameters", "words"),
    [
        ("stub", {"dealy": 1}, r"model.dealy: expected one of constant_factor, delay, .*, got 1"),
        ("stub", {"delay": "soon"}, r"model.delay: expected float, got 'soon'"),
        ("stub", {"delay": -1}, r"model.delay: expected a number of at least 0, got -1"),
        ("stub", {"failure_rate": 1.5}, r"model.failure_rate: expected a number from 0 to 1, got 1.5"),
        ("stub", {"workers": "many"}, r"model.workers: expected int, got 'many'"),
        (f"{SHELF}:Scaled", {}, r"model.gain: expected a value"),
        (f"{SHELF}:built", {"gain": 1.0}, r"model.gain: expected one of executor, .* got 1.0"),
        (f"{SHELF}:Bare", {"gain": 1.0}, r"model.gain: expected one of executor, .* got 1.0"),
    ],
)
def test_wrong_parameter_names_key_expected_and_got(spec, parameters, words):
    with pytest.raises(ConfigError, match=words):
        load_model(spec, parameters)
