"""Parts of a kernel's work: each row once, whatever the number of threads; errors come through."""

from __future__ import annotations

import threading
import time

import numba
import numpy as np
import pytest

from intramodal.evaluation.kernels.threads import in_threads


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("n", [0, 1, 3, 40, 41])
def test_each_row_is_done_once(n: int, n_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", n_threads)
    done = np.zeros(n, dtype=int)

    def kernel(part: tuple[int, int], step: int) -> None:
        done[part[0] : part[1]] += step

    in_threads(kernel, n, 3)
    assert (done == 3).all()


def test_parts_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 2)
    both = threading.Barrier(2)
    in_threads(lambda part: both.wait(timeout=30) if part[0] < 2 else None, 8)


def test_one_thread_is_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1)
    seen = []
    in_threads(lambda part: seen.append((part, threading.current_thread())), 8)
    assert seen == [((0, 8), threading.current_thread())]


def test_an_error_in_a_part_is_raised_and_ends_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 2)
    begun, failed = [], threading.Event()

    def kernel(part: tuple[int, int]) -> None:
        begun.append(part)
        if part[0] == 0:
            failed.set()
            raise MemoryError("the first part")
        assert failed.wait(timeout=30)
        time.sleep(0.5)  # the caller has time to hear of it

    with pytest.raises(MemoryError, match="the first part"):
        in_threads(kernel, 16)
    assert len(begun) < 8  # not all of them
