"""The scorer's tests run as the server runs it: with one BLAS thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamer.vad.network import one_blas_thread


@pytest.fixture(autouse=True, scope="package")
def blas() -> Iterator[None]:
    with one_blas_thread():
        yield
