"""The same data gives the same answers on every backend; equal scores aside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intramodal.store.base import Filter, Hits, Store, VectorSpec
from intramodal.store.open import open_store
from intramodal.types import Floats, PointId, point_id, unit_rows

N, D = 400, 24
URL = os.environ.get("INTRAMODAL_TEST_QDRANT_URL")
NAME = "intramodal-congruence"
# Two engines sum 24 float32 products in another order.
ATOL = 1e-6


def _pictures() -> Floats:
    """Return clustered unit rows with exact duplicates, as photo collections have them."""
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(20, D))
    X = centres[rng.integers(20, size=N)] + 0.3 * rng.normal(size=(N, D))
    X[50:60] = X[0]
    X[60:80] = X[60]
    return unit_rows(X)


X = _pictures()
IDS: list[PointId] = [
    int(i) if i % 3 else point_id("congruence", str(i))
    for i in np.random.default_rng(6).permutation(N)
]


def _fill(store: Store) -> Store:
    if store.exists(NAME):
        store.drop(NAME)
    store.create(NAME, {"raw": VectorSpec(D), "pca": VectorSpec(4)})
    payloads = [{"label": int(n % 7), "split": "ab"[n % 2]} for n in range(N)]
    store.upsert(NAME, IDS, {"raw": X, "pca": X[:, :4]}, payloads)
    return store


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Store]]:
    folder: Path = tmp_path_factory.mktemp("congruence")
    locations = [":memory:", str(folder / "store"), *([URL] if URL else [])]
    key = os.environ.get("INTRAMODAL_TEST_QDRANT_API_KEY")
    opened = [_fill(open_store(location, api_key=key)) for location in locations]
    opened[1].optimize(NAME)
    yield opened
    for store in opened:
        store.drop(NAME)
        store.close()


def _assert_same(answers: list[Hits]) -> None:
    first, *others = answers
    for other in others:
        assert [len(ids) for ids in other.ids] == [len(ids) for ids in first.ids]
        for row, scores in enumerate(first.scores):
            np.testing.assert_allclose(other.scores[row], scores, atol=ATOL)
            # Where neighbouring scores differ by more than rounding, the ids must agree.
            gaps = np.abs(np.diff(scores)) > 2 * ATOL
            is_apart = np.concatenate([[True], gaps]) & np.concatenate([gaps, [False]])
            mine, theirs = np.array(first.ids[row], object), np.array(other.ids[row], object)
            assert (mine == theirs)[is_apart].all()


@settings(
    derandomize=True, deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
@given(
    rows=st.lists(st.integers(0, N - 1), min_size=1, max_size=5),
    k=st.integers(1, 60),
    label=st.none() | st.integers(0, 7),
    excludes=st.booleans(),
    two_stages=st.booleans(),
)
def test_every_backend_ranks_the_same_points(
    stores: list[Store],
    rows: list[int],
    k: int,
    label: int | None,
    excludes: bool,
    two_stages: bool,
) -> None:
    where = None if label is None else Filter(equals={"label": label})
    exclude = [IDS[row] for row in rows] if excludes else None
    # The first stage keeps every point of a label: it must not cut between equals.
    prefetch = {"using": "pca", "limit": max(k, 110), "Q": X[rows, :4]}
    params = {"prefetch": prefetch} if two_stages and label is not None else None
    _assert_same(
        [
            store.query_batch(
                NAME, X[rows], using="raw", k=k, exclude=exclude, where=where, params=params
            )
            for store in stores
        ]
    )


def test_exact_duplicates_are_ranked_alike_by_every_backend(stores: list[Store]) -> None:
    for k in (1, 5, 12, 25):
        answers = [store.query_batch(NAME, X[[0, 60]], using="raw", k=k) for store in stores]
        n_equal = min(k, 11)  # row 0 and its ten copies
        assert all(answer.ids[0][:n_equal] == answers[0].ids[0][:n_equal] for answer in answers)


def test_every_backend_reads_back_the_same_points(stores: list[Store]) -> None:
    first, *others = (list(s.scroll(NAME, vectors=["raw"], payload=True)) for s in stores)
    for other in others:
        assert [p.ids for p in other] == [p.ids for p in first]
        assert [p.payloads for p in other] == [p.payloads for p in first]
        for a, b in zip(first, other, strict=True):
            np.testing.assert_allclose(a.vectors["raw"], b.vectors["raw"], atol=ATOL)


@pytest.mark.parametrize(
    "where",
    [
        Filter(equals={"label": [1, 2]}),
        Filter(equals={"split": "a"}, has_vector="pca"),
        Filter(ids=IDS[:17], equals={"split": ["a", "b"]}),
    ],
)
def test_every_backend_counts_the_same_points(stores: list[Store], where: Filter) -> None:
    counts = {store.count(NAME, where) for store in stores}
    assert len(counts) == 1
    assert counts.pop() > 0
