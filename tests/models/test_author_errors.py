"""An author reads the traceback of their own code, and one line with its place."""

from __future__ import annotations

import pytest

from streamer.errors import ModelLoadError
from streamer.models.contract import FunctionModel, model
from streamer.models.loading import load_model


def test_an_import_that_fails_has_file_line_and_traceback_of_the_authors_code(tmp_path):
    path = tmp_path / "bad_name.py"
    path.write_text("def helper():\n    return undefined_name\n\nx = helper()\n")
    with pytest.raises(ModelLoadError) as failure:
        load_model(f"{path}:x")
    assert failure.value.message.endswith(f"NameError: name 'undefined_name' is not defined ({path}, line 2)")
    assert [line.strip() for line in failure.value.detail.splitlines() if "File" in line] == [
        f'File "{path}", line 4, in <module>',
        f'File "{path}", line 2, in helper',
    ]


def test_an_import_of_something_missing_names_the_line_that_imports_it(tmp_path):
    path = tmp_path / "needs_torch.py"
    path.write_text("\nimport torch_is_not_here\n")
    with pytest.raises(ModelLoadError) as failure:
        load_model(f"{path}:x")
    assert failure.value.message.endswith(f"({path}, line 2)")
    assert "importlib" not in failure.value.detail


def test_a_syntax_error_has_its_line(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("x = (\n")
    with pytest.raises(ModelLoadError) as failure:
        load_model(f"{path}:x")
    assert f'File "{path}", line 1' in failure.value.detail


def test_a_constructor_that_fails_has_its_line(tmp_path):
    path = tmp_path / "constructor.py"
    path.write_text("import streamer\nclass M(streamer.Model):\n    def __init__(self):\n        {}['missing']\n")
    with pytest.raises(ModelLoadError, match="building it failed: KeyError: 'missing'") as failure:
        load_model(f"{path}:M")
    assert failure.value.message.endswith(f"({path}, line 4)")
    assert f'File "{path}", line 4' in failure.value.detail


def test_the_decorator_needs_no_parentheses():
    @model
    def bare(samples):
        return len(samples)

    assert isinstance(bare, FunctionModel)
    assert bare.name == "bare"
    assert bare([1, 2]) == 2
