"""The fault table, row by row."""

import pytest

pytest.register_assert_rewrite("tests.faults.arena", "tests.faults.peers", "tests.faults.sight", "tests.faults.beside")
