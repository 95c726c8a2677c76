"""One BLAS thread while speech is scored: the products are small, and helpers that spin cost more than they give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Numpy's matrix products run on the calling thread alone; afterwards as before.

    BLAS keeps this number per process, so other threads' products are limited meanwhile as well. The figures that make
    it necessary are in docs/design/scorer.md.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        yield
