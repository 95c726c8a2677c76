"""Protocols of other services."""

import pytest

pytest.register_assert_rewrite("tests.dialects.fault_stage")
