"""The ranking kernel against scikit-learn, its oracle and every order of ties."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from intramodal.errors import InputError
from intramodal.evaluation.kernels import cpu
from intramodal.evaluation.kernels.first_page import _best
from intramodal.evaluation.ranking import (
    PAGE_FIGURES,
    Groups,
    Ranking,
    Relevance,
    Reranking,
    as_lists,
    leave_group_out,
    rank,
    rank_without_groups,
)
from tests.unit.evaluation import plain_kernels

EXACT = 1e-12  # float64 sums of at most 60 terms


def relevance(positives: Sequence[Sequence[int]], ignored: Sequence[Sequence[int]]) -> Relevance:
    return Relevance(
        positives=lambda start, stop: as_lists(positives[start:stop]),
        ignored=lambda start, stop: as_lists(ignored[start:stop]),
        n_queries=len(positives),
    )


def one_query(
    scores: Sequence[float], relevant: Sequence[bool], junk: Sequence[int] = (), **options: object
) -> Ranking:
    """Rank one query whose scores are given, by a kernel that agrees with its oracle.

    The gallery has one dimension.
    """
    gallery = np.asarray(scores, dtype=np.float32)[:, None]
    positives = [i for i in np.flatnonzero(relevant) if i not in junk]
    query = np.ones((1, 1), dtype=np.float32)
    lists = relevance([positives], [list(junk)])
    got = rank(query, gallery, lists, **options)  # type: ignore[arg-type]
    assert_oracle_agrees(query @ gallery.T, lists)
    return got


def assert_oracle_agrees(S: np.ndarray, lists: Relevance) -> None:
    """Compare every sum that the kernel makes of scores (n_queries, n) with the oracle's."""
    n, ks = len(S), np.array([1, 3, 10])
    got, expected, quick = (np.zeros((n, cpu.N_FIXED + cpu.N_AT_K * len(ks))) for _ in range(3))
    for kernel, by_id, out in (
        (cpu, True, got), (plain_kernels, True, expected), (cpu, False, quick)
    ):  # fmt: skip
        kernel.rank_block(S, *lists.positives(0, n), *lists.ignored(0, n), ks, out, by_id)
    np.testing.assert_allclose(got, expected, rtol=EXACT, atol=EXACT)
    quick[:, cpu.AP_ID] = got[:, cpu.AP_ID]  # all that it leaves out
    np.testing.assert_array_equal(quick, got)


def left_out_by_oracle(
    X: np.ndarray, G: np.ndarray, lists: Relevance, groups: Groups
) -> np.ndarray:
    """Return the average precision (n, n_groups) without each group, ranked again."""
    n = len(X)
    out = np.full((n, groups.n_groups), np.nan)
    split = groups.gallery, groups.own, groups.query
    plain_kernels.leave_out_block(X @ G.T, *lists.positives(0, n), *split, out)
    return out


def average_precision(ordered: Sequence[bool]) -> float:
    found = np.cumsum(ordered)
    places = np.flatnonzero(ordered)
    return float((found[places] / (places + 1)).mean())


def orders(scores: Sequence[float], relevant: Sequence[bool]) -> list[list[bool]]:
    """Return the relevance of the ranking under every order of ties."""
    found = []
    for order in itertools.permutations(range(len(scores))):
        ordered = [scores[i] for i in order]
        if ordered == sorted(scores, reverse=True):
            found.append([bool(relevant[i]) for i in order])
    return found


def tied_case(rng: np.random.Generator, n: int) -> tuple[list[float], list[bool]]:
    relevant = rng.random(n) < 0.4
    relevant[rng.integers(n)] = True
    return rng.integers(-2, 2, n).astype(float).tolist(), relevant.tolist()


def test_expected_figures_are_means_over_every_order_of_ties(rng: np.random.Generator) -> None:
    for _ in range(25):
        scores, relevant = tied_case(rng, 6)
        got = one_query(scores, relevant, ks=(1, 3))
        rankings = orders(scores, relevant)
        m = sum(relevant)
        expected = {
            "mrr": np.mean([1 / (o.index(True) + 1) for o in rankings]),
            "r_precision": np.mean([sum(o[:m]) / m for o in rankings]),
            "recall@3": np.mean([sum(o[:3]) / m for o in rankings]),
            "precision@3": np.mean([sum(o[:3]) / 3 for o in rankings]),
            "hit@3": np.mean([any(o[:3]) for o in rankings]),
            "hit@1": np.mean([o[0] for o in rankings]),
            "ap@r": np.mean(
                [sum(sum(o[: j + 1]) / (j + 1) for j in range(m) if o[j]) / m for o in rankings]
            ),
        }
        precisions = [average_precision(o) for o in rankings]
        assert got.ap[0] == pytest.approx(np.mean(precisions), abs=EXACT)
        assert got.tie_width[0] == pytest.approx(max(precisions) - min(precisions), abs=EXACT)
        for name, value in expected.items():
            assert got.figures[name][0] == pytest.approx(value, abs=EXACT), name


@pytest.mark.parametrize(("ties", "choose"), [("best", max), ("worst", min)])
def test_best_and_worst_are_the_extremes_of_every_order(
    rng: np.random.Generator, ties: str, choose: type
) -> None:
    for _ in range(25):
        scores, relevant = tied_case(rng, 6)
        got = one_query(scores, relevant, ties=ties)
        extreme = choose(average_precision(o) for o in orders(scores, relevant))
        assert got.ap[0] == pytest.approx(extreme, abs=EXACT)


cases = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40).filter(
    lambda rows: any(relevant for _, relevant in rows)
)


@settings(deadline=None)  # the first call compiles
@given(cases)
def test_sklearn_ties_equal_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    """Duplicates, negative scores, one positive and all positives are among the cases."""
    scores, relevant = zip(*rows, strict=True)
    got = one_query(scores, relevant, ties="sklearn")
    assert got.ap[0] == pytest.approx(average_precision_score(relevant, scores), abs=EXACT)


@settings(deadline=None)
@given(cases)
def test_ndcg_equals_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    scores, relevant = zip(*rows, strict=True)
    got = one_query(scores, relevant)
    # scikit-learn needs two items, and averages tied gains as we do.
    if len(rows) > 1:
        assert got.figures["ndcg"][0] == pytest.approx(ndcg_score([relevant], [scores]), abs=EXACT)
        for k in (1, 5, 10):
            expected = ndcg_score([relevant], [scores], k=k)
            assert got.figures[f"ndcg@{k}"][0] == pytest.approx(expected, abs=EXACT)


@settings(deadline=None)
@given(cases)
def test_id_ties_follow_the_order_of_the_gallery(rows: list[tuple[int, bool]]) -> None:
    scores, relevant = zip(*rows, strict=True)
    order = np.argsort(-np.asarray(scores), kind="stable")
    got = one_query(scores, relevant, ties="id")
    assert got.ap[0] == pytest.approx(average_precision(np.asarray(relevant)[order]), abs=EXACT)


@settings(deadline=None)
@given(cases)
def test_average_precision_is_bounded_and_ordered(rows: list[tuple[int, bool]]) -> None:
    scores, relevant = zip(*rows, strict=True)
    worst, expected, best = (
        one_query(scores, relevant, ties=ties).ap[0] for ties in ("worst", "expected", "best")
    )
    assert 0 < worst <= expected + EXACT
    assert expected <= best + EXACT
    assert best <= 1 + EXACT


def plain_trapezoid(
    scores: Sequence[float], relevant: Sequence[bool], junk: Sequence[int]
) -> float:
    """Return AP as the revisited Oxford and Paris benchmark computes it."""
    order = [i for i in np.argsort(-np.asarray(scores), kind="stable") if i not in junk]
    places = [place for place, i in enumerate(order) if relevant[i]]
    step = 1 / len(places)
    total = 0.0
    for j, place in enumerate(places):
        before = 1.0 if place == 0 else j / place
        total += (before + (j + 1) / (place + 1)) * step / 2
    return total


def test_trapezoid_with_junk_equals_the_plain_code(rng: np.random.Generator) -> None:
    for _ in range(50):
        scores = rng.permutation(30).astype(float).tolist()  # no ties: the plain code has no rule
        relevant = (rng.random(30) < 0.3).tolist()
        junk = rng.choice(30, 6, replace=False).tolist()
        if not any(r for i, r in enumerate(relevant) if i not in junk):
            continue
        got = one_query(scores, relevant, junk)
        expected = plain_trapezoid(scores, relevant, junk)
        assert got.trapezoid_ap[0] == pytest.approx(expected, abs=EXACT)


def labelled(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, Relevance]:
    """Return tied vectors (n, 3), labels, and leave-one-out relevance."""
    X = rng.integers(-1, 2, (n, 3)).astype(np.float32)
    labels = rng.integers(0, 4, n)
    others = [[j for j in range(n) if labels[j] == labels[i] and j != i] for i in range(n)]
    return X, labels, relevance(others, [[i] for i in range(n)])


def test_blocks_of_any_size_give_the_same_figures(rng: np.random.Generator) -> None:
    X, _, relevant = labelled(rng, 50)
    whole = rank(X, X, relevant)
    assert_oracle_agrees(X @ X.T, relevant)
    for block_bytes in (1, 50 * 4 * 7):
        got = rank(X, X, relevant, block_bytes=block_bytes)
        np.testing.assert_allclose(got.ap, whole.ap, atol=EXACT)
        for name, values in whole.figures.items():
            np.testing.assert_allclose(got.figures[name], values, atol=EXACT, err_msg=name)


def test_the_order_of_the_gallery_does_not_matter(rng: np.random.Generator) -> None:
    X, labels, relevant = labelled(rng, 50)
    order = rng.permutation(50)
    place = np.argsort(order)
    moved = [
        [int(place[j]) for j in range(50) if labels[j] == labels[i] and j != i] for i in range(50)
    ]
    shuffled = rank(X, X[order], relevance(moved, [[int(place[i])] for i in range(50)]))
    np.testing.assert_allclose(shuffled.ap, rank(X, X, relevant).ap, atol=EXACT)


def test_leaving_a_group_out_equals_ranking_without_its_images(rng: np.random.Generator) -> None:
    X, labels, relevant = labelled(rng, 40)
    groups = rng.integers(0, 5, 40)
    split = Groups(groups, groups, np.arange(40), 5)
    got = np.concatenate(list(leave_group_out(X, X, relevant, split)))
    for g in range(5):
        left = np.flatnonzero(groups != g)
        others = [
            [k for k, j in enumerate(left) if labels[j] == labels[i] and j != i] for i in left
        ]
        own = [[k] for k in range(len(left))]
        expected = np.full(40, np.nan)
        expected[left] = rank(X[left], X[left], relevance(others, own)).ap
        np.testing.assert_allclose(got[:, g], expected, atol=EXACT)
    np.testing.assert_allclose(left_out_by_oracle(X, X, relevant, split), got, atol=EXACT)


def assert_same_ranking(got: Ranking, expected: Ranking) -> None:
    """Hold two rankings against each other to the last bit."""
    for of_all in ("ap", "tie_width", "trapezoid_ap", "n_relevant"):
        np.testing.assert_array_equal(getattr(got, of_all), getattr(expected, of_all), of_all)
    assert got.figures.keys() == expected.figures.keys()
    for name, values in expected.figures.items():
        np.testing.assert_array_equal(got.figures[name], values, name)


def crowd(rng: np.random.Generator, n_classes: int, steps: int) -> tuple[Any, Any, Relevance]:
    """Return vectors, rows that ask and who is relevant to them; the fewer steps, the more tie.

    Of multiples of 1 / steps, so that products are exact, in blocks of any size. More items than
    a chunk of the kernel holds.
    """
    n = 1_300
    labels = rng.integers(0, n_classes, n)
    X = np.round((rng.normal(size=(n, 8)) + labels[:, None] / n_classes) * steps) / steps
    asks = np.sort(rng.permutation(n)[:30])
    positives = [[j for j in np.flatnonzero(labels == labels[i]) if j != i] for i in asks]
    return X.astype(np.float32), asks, relevance(positives, [[i] for i in asks])


def some_units(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """Return ways to put n rows into units, by name."""
    copies = np.where(rng.random(n) < 0.3, rng.integers(0, n // 8, n), n + np.arange(n))
    return {
        "each its own": np.arange(n),
        "copies": np.unique(copies, return_inverse=True)[1],
        "field": rng.integers(0, 6, n),
        "some of none": np.unique(np.where(rng.random(n) < 0.5, -1, copies), return_inverse=True)[
            1
        ]
        - 1,
    }


@pytest.mark.parametrize(("n_classes", "steps"), [(1, 1), (1, 64), (3, 8), (40, 1), (40, 64)])
def test_one_pass_ranks_and_leaves_out_as_two_do(
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    n_classes: int,
    steps: int,
) -> None:
    X, asks, relevant = crowd(rng, n_classes, steps)
    expected = rank(X[asks], X, relevant)
    for name, groups in some_units(rng, len(X)).items():
        split = Groups(groups, groups[asks], asks, groups.max() + 1)
        ranking, sums, counts = rank_without_groups(X[asks], X, relevant, split)
        assert_same_ranking(ranking, expected)
        ap = np.concatenate(list(leave_group_out(X[asks], X, relevant, split)))
        np.testing.assert_array_equal(counts, np.isfinite(ap).sum(axis=0), name)
        np.testing.assert_allclose(sums[:, 0], np.nansum(ap, axis=0), rtol=EXACT, err_msg=name)
        with monkeypatch.context() as patch:  # seven queries at a time, and one
            patch.setattr("intramodal.evaluation.ranking.LEAST_ROWS", 1)
            for n_bytes in (4 * len(X) * 7, 1):
                patch.setattr("intramodal.evaluation.ranking.BLOCK_BYTES", n_bytes)
                again, in_blocks, n_again = rank_without_groups(X[asks], X, relevant, split)
                assert_same_ranking(again, ranking)
                np.testing.assert_array_equal(n_again, counts)
                np.testing.assert_allclose(in_blocks, sums, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize(("n_classes", "steps"), [(1, 1), (1, 64), (3, 8), (40, 1), (40, 64)])
def test_what_is_left_of_a_crowd_is_what_ranking_again_gives(
    rng: np.random.Generator, n_classes: int, steps: int
) -> None:
    """A few units of one, two and many rows, as the oracle takes its time."""
    X, asks, relevant = crowd(rng, n_classes, steps)
    groups = np.full(len(X), -1)
    drawn = rng.permutation(len(X))
    groups[drawn[:400]] = 0
    groups[drawn[400:406]] = [1, 1, 2, 2, 3, 3]
    groups[drawn[406:420]] = np.arange(4, 18)
    groups[asks[:4]] = np.arange(18, 22)  # units of their own that ask
    split = Groups(groups, groups[asks], asks, 22)
    _, sums, counts = rank_without_groups(X[asks], X, relevant, split)
    expected = left_out_by_oracle(X[asks], X, relevant, split)
    np.testing.assert_array_equal(counts, np.isfinite(expected).sum(axis=0))
    np.testing.assert_allclose(
        sums[:, 0], np.nansum(expected, axis=0), rtol=1e-11
    )  # of 1,300 terms


drawn_units = st.lists(
    st.tuples(
        st.integers(0, 5),  # score: most are tied
        st.integers(0, 2),  # class
        st.one_of(st.integers(0, 2), st.integers(3, 60)),  # unit: a few large ones, many small
    ),
    min_size=3,
    max_size=40,
)


@given(drawn_units, st.booleans())
@settings(deadline=None)
def test_units_of_any_size_are_left_out_as_by_ranking_again(
    rows: list[tuple[int, int, int]], asked_by_pictures: bool
) -> None:
    """Tied scores, units of one picture, of many, and queries that are no pictures."""
    scores, labels, units = (np.array(column) for column in zip(*rows, strict=True))
    n, G = len(rows), scores.astype(np.float32)[:, None]
    _, groups = np.unique(units, return_inverse=True)
    itself = np.arange(n) if asked_by_pictures else np.full(n, -1)
    split = Groups(
        groups, groups[itself] if asked_by_pictures else itself, itself, 1 + max(groups)
    )
    relevant = relevance(
        [[j for j in range(n) if labels[j] == labels[i] and j != itself[i]] for i in range(n)],
        [[i] if asked_by_pictures else [] for i in range(n)],
    )
    Q = np.ones_like(G)
    got = np.concatenate(list(leave_group_out(Q, G, relevant, split)))
    expected = left_out_by_oracle(Q, G, relevant, split)
    np.testing.assert_allclose(got, expected, atol=EXACT)


def totals_by_ranking_again(
    Q: np.ndarray, G: np.ndarray, positives: list[list[int]], split: Groups
) -> tuple[np.ndarray, np.ndarray]:
    """Rank the gallery without each group, for the queries that are not in it."""
    sums, counts = np.zeros((split.n_groups, 4)), np.zeros(split.n_groups, dtype=int)
    for g in range(split.n_groups):
        place = np.cumsum(split.gallery != g) - 1
        left = [
            (q, [int(place[j]) for j in positives[q] if split.gallery[j] != g])
            for q in np.flatnonzero(split.own != g)
        ]
        left = [(q, found) for q, found in left if found]
        counts[g] = len(left)
        if not left:
            continue
        own = [[int(place[j])] if (j := split.query[q]) >= 0 else [] for q, _ in left]
        relevant = relevance([found for _, found in left], own)
        got = rank(Q[[q for q, _ in left]], G[split.gallery != g], relevant)
        columns = [got.ap, *(got.figures[name] for name in PAGE_FIGURES)]
        sums[g] = [values.sum() for values in columns]
    return sums, counts


@given(drawn_units, st.booleans())
@settings(deadline=None)
def test_first_pages_without_a_unit_are_those_of_ranking_again(
    rows: list[tuple[int, int, int]], asked_by_pictures: bool
) -> None:
    """Tied scores, units of one picture and of many, fewer relevant ones than the page holds."""
    scores, labels, units = (np.array(column) for column in zip(*rows, strict=True))
    n, G = len(rows), scores.astype(np.float32)[:, None]
    _, groups = np.unique(units, return_inverse=True)
    itself = np.arange(n) if asked_by_pictures else np.full(n, -1)
    own = groups if asked_by_pictures else itself
    positives = [
        [j for j in range(n) if labels[j] == labels[i] and j != itself[i]] for i in range(n)
    ]
    able = [i for i in range(n) if positives[i]]
    if not able:
        return
    split = Groups(groups, own[able], itself[able], 1 + max(groups))
    positives = [positives[i] for i in able]
    relevant = relevance(positives, [[int(i)] if i >= 0 else [] for i in itself[able]])
    Q = np.ones((len(able), 1), dtype=np.float32)
    ranking, sums, counts = rank_without_groups(Q, G, relevant, split)
    assert_same_ranking(ranking, rank(Q, G, relevant))
    expected, n_expected = totals_by_ranking_again(Q, G, positives, split)
    np.testing.assert_array_equal(counts, n_expected)
    np.testing.assert_allclose(sums, expected, atol=1e-9)


def test_rows_without_a_unit_are_never_left_out(rng: np.random.Generator) -> None:
    X, _, relevant = labelled(rng, 30)
    groups = np.where(np.arange(30) < 10, np.arange(30) % 4, -1)
    split = Groups(groups, groups, np.arange(30), 4)
    got = np.concatenate(list(leave_group_out(X, X, relevant, split)))
    expected = left_out_by_oracle(X, X, relevant, split)
    np.testing.assert_allclose(got, expected, atol=EXACT)


def test_as_many_units_as_pictures_take_no_memory_of_their_square(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, _, relevant = labelled(rng, 50)
    each = np.arange(50)
    monkeypatch.setattr("intramodal.evaluation.ranking.BLOCK_BYTES", 8 * 50 * 7)
    blocks = list(leave_group_out(X, X, relevant, Groups(each, each, each, 50)))
    assert {len(block) for block in blocks} == {7, 50 % 7}
    monkeypatch.undo()
    (whole,) = leave_group_out(X, X, relevant, Groups(each, each, each, 50))
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_queries_without_positives_are_nan_and_counted_as_zero_relevant() -> None:
    got = one_query([0.5, 0.2], [False, False])
    assert math.isnan(got.ap[0])
    assert math.isnan(got.figures["recall@1"][0])
    assert got.n_relevant[0] == 0


def test_a_spread_below_float_resolution_does_not_overflow_the_buckets() -> None:
    smallest = np.float32(1e-45)
    got = one_query([0.0, float(smallest), 1.0, -1.0], [True, True, False, False])
    assert got.ap[0] == pytest.approx((1 / 2 + 2 / 3) / 2, abs=EXACT)


def spread(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    """Return scores that fill the kernel's buckets evenly, or hardly."""
    normal = rng.normal(size=n).astype(np.float32)
    if kind == "one far away":
        normal[rng.integers(0, n, 3)] = -1e6  # all others share a bucket
    if kind == "few levels":
        normal = np.round(normal, 1)
    if kind == "many powers":
        normal = np.sign(normal) * np.float32(10) ** (30 * normal.clip(-1, 1))
    return normal


@pytest.mark.parametrize("kind", ["even", "one far away", "few levels", "many powers"])
@pytest.mark.parametrize("n", [511, 512, 1300])  # below, at and beyond what is counted at a time
@pytest.mark.parametrize("share", [0.01, 0.5])
def test_long_rankings_equal_scikit_learn(
    rng: np.random.Generator, kind: str, n: int, share: float
) -> None:
    scores = spread(rng, kind, n)
    relevant = rng.random(n) < share
    relevant[rng.integers(n)] = True
    got = one_query(scores.tolist(), relevant.tolist(), ties="sklearn")
    assert got.ap[0] == pytest.approx(average_precision_score(relevant, scores), abs=EXACT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ties": "random"}, "ties must be one of"),
        ({"ks": (0,)}, "counted from 1"),
    ],
)
def test_unknown_options_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        one_query([1.0, 0.0], [True, False], **change)


def test_nan_is_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        one_query([1.0, float("nan")], [True, False])


@given(st.integers(0, 2**32 - 1), st.integers(1, 14))
@settings(max_examples=40, deadline=None)
def test_the_first_places_are_put_in_another_order_as_by_a_plain_sort(
    seed: int, n_first: int
) -> None:
    rng = np.random.default_rng(seed)
    # Few values, so that scores tie at the last of the first places, and cosines among them.
    Q, Z = (rng.integers(-2, 3, size=(12, 2)).astype(np.float32) for _ in range(2))
    positives = [np.flatnonzero(rng.random(12) < 0.4) for _ in range(12)]
    lists = relevance([p[p != q] for q, p in enumerate(positives)], [[q] for q in range(12)])
    reranking = Reranking(Z, Z, n_first, lists.ignored)
    got = rank(Q, Q.copy(), lists, reranking=reranking, ks=(1, 3))
    scores, cosines = Q @ Q.T, Z @ Z.T
    expected = np.empty((12, 12), dtype=np.float32)
    for q in range(12):
        others = [i for i in range(12) if i != q]
        first = sorted(others, key=lambda i: (-scores[q, i], i))[:n_first]
        expected[q] = scores[q]
        expected[q, first] = 1000 + cosines[q, first]
    plain = rank(np.eye(12, dtype=np.float32), expected.T.copy(), lists, ks=(1, 3))
    np.testing.assert_allclose(got.ap, plain.ap, atol=EXACT)
    np.testing.assert_allclose(got.tie_width, plain.tie_width, atol=EXACT)
    for name, values in plain.figures.items():
        np.testing.assert_allclose(got.figures[name], values, atol=EXACT, err_msg=name)


@pytest.mark.parametrize("n_wanted", [1, 2, 7, 130, 399, 500])
@pytest.mark.parametrize("order", ["drawn", "rising", "falling", "tied"])
def test_the_best_scores_are_found_in_whatever_order_they_come(
    rng: np.random.Generator, order: str, n_wanted: int
) -> None:
    scores = rng.normal(size=400).astype(np.float32)
    scores = {"rising": np.sort(scores), "falling": -np.sort(scores)}.get(order, scores)
    scores = np.round(scores) if order == "tied" else scores
    itself = 17
    found = _best(scores, itself, n_wanted)
    ranked = np.argsort(-scores, kind="stable")
    least = scores[ranked[min(n_wanted, 399)]]  # the query may be among the first
    expected = [row for row in ranked if row != itself and scores[row] >= least]
    assert found.tolist() == expected


@pytest.mark.parametrize("n", [2, 37])
def test_copies_tie_among_the_first_places(rng: np.random.Generator, n: int) -> None:
    query, row = rng.normal(size=(2, 1, 301)).astype(np.float32)
    G = np.repeat(row, n, axis=0)
    lists = relevance([[n - 1]], [[]])
    found = rank(query, G, lists, reranking=Reranking(query, G, n, lists.ignored))
    # One of n alike is relevant: each place with the same chance.
    assert found.ap[0] == pytest.approx((1 / np.arange(1, n + 1)).mean())
