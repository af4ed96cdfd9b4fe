"""Figures of one query of the revisited protocol, against every order of ties."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intramodal.evaluation.kernels.trapezoid import Ranked, trapezoids, without_each

EXACT = 1e-12  # float64 sums of a few terms

Query = tuple[list[int], list[int]]


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Draw coarse scores, and of each image whether it is relevant (1), not (0) or junk (-1)."""
    n = draw(st.integers(1, 6))
    scores = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    kinds = draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=n, max_size=n))
    return scores, [1, *kinds[1:]]


def parted(query: Query) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, kinds = (np.array(one) for one in query)
    return scores.astype(np.float32), np.flatnonzero(kinds == 1), np.flatnonzero(kinds == -1)


def orders(query: Query) -> Iterator[list[int]]:
    """Yield places (from 1) of the relevant images under every order of ties, without junk."""
    scores, kinds = query
    kept = [i for i, kind in enumerate(kinds) if kind >= 0]
    for order in itertools.permutations(kept):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            yield [place for place, i in enumerate(order, start=1) if kinds[i] == 1]


def published_ap(places: list[int]) -> float:
    """Return average precision as the benchmark's code computes it."""
    ap = 0.0
    for j, place in enumerate(places):
        rank = place - 1
        before = 1.0 if rank == 0 else j / rank
        ap += (before + (j + 1) / (rank + 1)) / len(places) / 2
    return ap


def published_precision(places: list[int], k: int) -> float:
    kq = min(max(places), k)
    return sum(place <= kq for place in places) / kq


@settings(max_examples=300, deadline=None)
@given(queries())
def test_precision_is_the_mean_over_all_orders_of_ties(query: Query) -> None:
    every, ks = list(orders(query)), (1, 2, 3, 10)
    plain = [np.mean([sum(p <= k for p in places) / k for places in every]) for k in ks]
    got = Ranked.of(*parted(query)).precisions(ks, plain)
    expected = [np.mean([published_precision(places, k) for places in every]) for k in ks]
    np.testing.assert_allclose(got, expected, atol=EXACT)


@settings(max_examples=300, deadline=None)
@given(queries())
def test_the_width_of_ties_is_that_of_the_best_and_the_worst_order(query: Query) -> None:
    every = [published_ap(places) for places in orders(query)]
    width = Ranked.of(*parted(query)).tie_width()
    assert width == pytest.approx(max(every) - min(every), abs=EXACT)


@settings(max_examples=300, deadline=None)
@given(queries())
def test_each_image_is_left_out_as_if_it_had_never_been_there(query: Query) -> None:
    scores, kinds = query

    def ranked_without(left: int | None) -> float:
        kept = [i for i, kind in enumerate(kinds) if kind >= 0 and i != left]
        order = sorted(kept, key=lambda i: (-scores[i], i))
        places = [place for place, i in enumerate(order, start=1) if kinds[i] == 1]
        return published_ap(places) if places else np.nan

    whole, each = without_each(*parted(query))
    assert whole == pytest.approx(ranked_without(None), abs=EXACT)
    np.testing.assert_allclose(each, [ranked_without(i) for i in range(len(scores))], atol=EXACT)


def test_one_image_at_the_first_position_and_one_at_the_fourth() -> None:
    # (1 + 1) / 2, and before the fourth position 1 of 3, at it 2 of 4.
    np.testing.assert_allclose(trapezoids(np.array([0, 3])), [1.0, (1 / 3 + 2 / 4) / 2])


def test_a_group_of_thousands_of_ties_is_no_overflow() -> None:
    scores = np.zeros(6000, dtype=np.float32)
    ranked = Ranked.of(scores, np.arange(300), np.arange(300, 310))
    # The last relevant image is never among the first ten: 300 of 5,990 everywhere.
    assert ranked.precisions([10], [300 / 5990]) == pytest.approx([300 / 5990])
