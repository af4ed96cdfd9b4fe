from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from intramodal.errors import StoreError
from intramodal.store.base import UNNAMED, VectorSpec, page_of
from intramodal.store.pages import PAGE_BYTES, PageSize

SPECS = {"raw": VectorSpec(3), "pca": VectorSpec(2)}


def record(number: int, vector: Any) -> Any:
    return SimpleNamespace(id=number, vector=vector, payload=None)


def test_rows_hold_the_bits_that_were_sent_and_nan_where_there_is_nothing(
    rng: np.random.Generator,
) -> None:
    X = rng.normal(size=(4, 3)).astype(np.float32)
    X[0] = [np.inf, -0.0, 1e-45]  # the smallest float32 of all
    found = [{"raw": row, "pca": [1, 2]} for row in X.tolist()]
    found[2] = {"pca": [3.0, 4.0]}
    records = [*map(record, range(4), found), record(4, None), record(5, {})]
    page = page_of(records, SPECS, ["raw", "pca"])
    assert page.vectors["raw"][[0, 1, 3]].tobytes() == X[[0, 1, 3]].tobytes()
    assert np.isnan(page.vectors["raw"][[2, 4, 5]]).all()
    np.testing.assert_array_equal(page.vectors["pca"][:4], [[1, 2], [1, 2], [3, 4], [1, 2]])
    assert page.payloads == [{}] * 6


def test_the_unnamed_vector_comes_bare_or_by_its_empty_name() -> None:
    records = [record(0, [1.0, 2.0]), record(1, {UNNAMED: [3.0, 4.0], "raw": [0.0] * 3})]
    page = page_of(records, {UNNAMED: VectorSpec(2)}, [UNNAMED])
    np.testing.assert_array_equal(page.vectors[UNNAMED], [[1, 2], [3, 4]])


def test_an_answer_of_another_length_is_an_error() -> None:
    with pytest.raises(StoreError, match="2 dimensions instead of 3"):
        page_of([record(0, {"raw": [1.0, 2.0]})], SPECS, ["raw"])


def test_a_page_of_usual_vectors_has_all_the_points_that_were_asked_for() -> None:
    assert PageSize(1000, 1024, payload=False)() == 1000
    assert PageSize(1000, 4096, payload=False)() < 300
    assert PageSize(1000, 10**9, payload=False)() == 1


def test_pages_of_whole_payloads_begin_small_and_grow_as_far_as_they_fit() -> None:
    size = PageSize(1000, 512, payload=True)
    seen = []
    for _ in range(4):
        seen.append(size())
        size.learn([{"n": 1}] * seen[-1])
    assert seen == [32, 128, 512, 1000]
    size.learn([{"scan": "x" * 10**6}] * 32)
    assert size() == PAGE_BYTES // (10**6 + 512 * 32 + 212)


def test_a_page_is_measured_by_some_of_its_payloads_all_over_it() -> None:
    size = PageSize(1000, 0, payload=False)
    size.learn([{"scan": "x" * 10**5 if n >= 500 else ""} for n in range(1000)])
    assert 400 < size() < 800


def test_pages_of_some_fields_begin_with_fewer_points_than_those_without_payload() -> None:
    size = PageSize(1000, 512, payload=["scan"])
    assert size() == 128
    size.learn([{"scan": "x" * 10**6}] * 128)
    assert size() < 40
