"""Image-image similarities follow from image-text ones, or the result says that they do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intramodal.errors import InputError, ModelError
from intramodal.evaluation import recovery
from intramodal.evaluation.recovery import (
    MAX_IMAGES,
    curve_of,
    n_norms_needed,
    recover_with_anchors,
    recover_without_anchors,
    recovery_curve,
)
from intramodal.evaluation.texts import ReadyTexts
from intramodal.types import VectorTable

PROMISED = 1e-6
SEEDS = st.integers(0, 2**32 - 1)
repeatable = settings(derandomize=True, deadline=None)


def unit(X: np.ndarray) -> np.ndarray:
    X = np.asarray(X, dtype=np.float64)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def draw(rng: np.random.Generator, n: int, d: int, *, cone: float = 0.0) -> np.ndarray:
    """Return unit rows; with `cone`, around a common direction, as CLIP's embeddings are."""
    return unit(rng.normal(size=(n, d)) + cone)


@repeatable
@given(SEEDS, st.integers(2, 24), st.integers(0, 20), st.integers(1, 30), st.floats(0, 2))
def test_anchors_of_full_rank_give_the_similarities(seed, d, n_more, n, cone):
    rng = np.random.default_rng(seed)
    X, T = draw(rng, n, d, cone=cone), draw(rng, 2 * d + n_more, d, cone=cone)
    found = recover_with_anchors(T @ X.T, T)
    assert found.is_determined
    assert (found.rank, found.n_free, found.n_unknowns) == (d, 0, d)
    assert abs(found.similarities() - X @ X.T).max() < PROMISED
    assert abs(found.images - X).max() < PROMISED
    assert found.norm_error < PROMISED
    assert found.residual < PROMISED
    assert found.condition == pytest.approx(np.linalg.cond(T), rel=1e-6)


@repeatable
@given(SEEDS, st.integers(2, 20), st.data())
def test_anchors_of_lower_rank_leave_the_missing_directions_free(seed, d, data):
    rng = np.random.default_rng(seed)
    rank = data.draw(st.integers(1, d - 1))
    # Many texts, distinct rows, few directions: the rank counts, not the number.
    T = unit(rng.normal(size=(3 * d, rank)) @ rng.normal(size=(rank, d)))
    X = draw(rng, 6, d)
    found = recover_with_anchors(T @ X.T, T)
    assert not found.is_determined
    assert (found.rank, found.n_free) == (rank, d - rank)
    # What comes back is the part in the span of the anchors, here by another route.
    basis, _ = np.linalg.qr(T[:rank].T)
    assert found.images == pytest.approx(X @ basis @ basis.T, abs=PROMISED)
    assert "not determined" in repr(found)


def test_lengths_of_the_texts_do_not_matter(rng):
    X, T = draw(rng, 5, 4), draw(rng, 9, 4)
    found = recover_with_anchors(T @ X.T, T * rng.uniform(1, 5, size=(9, 1)))
    assert abs(found.similarities() - X @ X.T).max() < PROMISED


def test_the_rank_of_float32_texts_ignores_their_rounding(rng):
    T = unit(rng.normal(size=(40, 3)) @ rng.normal(size=(3, 8))).astype(np.float32)
    X = draw(rng, 5, 8)
    assert recover_with_anchors(T @ X.T, T).rank == 3


@repeatable
@given(SEEDS, st.integers(2, 9), st.integers(0, 20))
def test_enough_unit_images_need_no_anchors(seed, d, n_more):
    rng = np.random.default_rng(seed)
    n = n_norms_needed(d) + d + n_more
    X, T = draw(rng, n, d), draw(rng, 2 * d, d)
    found = recover_without_anchors(T @ X.T)
    assert found.is_determined
    assert (found.n_equations, found.n_unknowns, found.rank) == (n, *2 * [n_norms_needed(d)])
    assert abs(found.similarities() - X @ X.T).max() < PROMISED
    assert found.residual < PROMISED


@pytest.mark.parametrize("d", [3, 8, 20])
def test_as_many_images_as_unknowns_are_enough_and_one_less_is_not(rng, d):
    n = n_norms_needed(d)
    X, T = draw(rng, n, d), draw(rng, 2 * d, d)
    exact = recover_without_anchors(T @ X.T)
    assert exact.is_determined
    assert abs(exact.similarities() - X @ X.T).max() < PROMISED
    short = recover_without_anchors(T @ X[1:].T)
    assert (short.is_determined, short.n_free) == (False, 1)
    assert abs(short.similarities() - X[1:] @ X[1:].T).max() > 1e-3
    assert f"{n - 1:,} equations for {n:,} unknowns, not determined: 1 direction" in repr(short)


@repeatable
@given(SEEDS, st.integers(3, 12), st.data())
def test_too_few_images_leave_as_many_directions_free_as_are_missing(seed, d, data):
    rng = np.random.default_rng(seed)
    n = data.draw(st.integers(d, n_norms_needed(d) - 1))
    X, T = draw(rng, n, d), draw(rng, 2 * d, d)
    found = recover_without_anchors(T @ X.T)
    assert (found.rank, found.n_free) == (n, n_norms_needed(d) - n)
    assert found.residual < PROMISED  # the equations hold, they are too few
    assert found.norm_error < 1


def test_the_same_image_many_times_is_one_equation(rng):
    d = 4
    X = np.repeat(draw(rng, 6, d), 5, axis=0)
    found = recover_without_anchors(draw(rng, 9, d) @ X.T)
    assert len(X) > n_norms_needed(d)
    assert (found.rank, found.n_free) == (6, n_norms_needed(d) - 6)


def test_images_that_the_texts_do_not_see_in_full_are_not_determined(rng):
    d, n_seen = 6, 4
    T = unit(rng.normal(size=(20, n_seen)) @ rng.normal(size=(n_seen, d)))
    found = recover_without_anchors(T @ draw(rng, 40, d).T, dim=d)
    assert found.rank <= n_norms_needed(n_seen)
    assert found.n_free >= n_norms_needed(d) - n_norms_needed(n_seen)


def test_the_figures_are_json(rng):
    X, T = draw(rng, 7, 3), draw(rng, 5, 3)
    row = json.loads(json.dumps(recover_without_anchors(T @ X.T).to_dict(), allow_nan=False))
    assert row["is_determined"] is True
    assert set(row) == {
        *("method", "n_equations", "n_unknowns", "rank", "condition", "residual", "norm_error"),
        *("n_free", "is_determined"),
    }


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: recover_with_anchors(np.ones((2, 3)), np.ones((3, 2))), "S has 2 rows"),
        (lambda: recover_with_anchors(np.ones(3), np.ones((3, 2))), "S must be a finite matrix"),
        (lambda: recover_with_anchors(np.ones((1, 2)), np.zeros((1, 2))), "texts are zero"),
        (lambda: recover_without_anchors(np.full((2, 2), np.nan)), "NaN or infinity"),
        (lambda: recover_without_anchors(np.zeros((2, 2))), "nothing can be recovered"),
        (lambda: recover_without_anchors(np.eye(3), dim=2), "rank 3, more than the 2 dimensions"),
    ],
)
def test_what_cannot_be_recovered_from_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize("n", [4, 40])
def test_a_system_beyond_the_memory_is_refused(rng, monkeypatch, n):
    monkeypatch.setattr(recovery, "MOST_BYTES", 100)
    with pytest.raises(InputError, match=r"equations of \d+ images take"):
        recover_without_anchors(draw(rng, 8, 4) @ draw(rng, n, 4).T)


def test_the_curve_ends_at_the_truth_and_equals_a_projection_before(rng):
    X, T = draw(rng, 60, 12, cone=0.5), draw(rng, 40, 12, cone=0.5)
    curve = curve_of(X, T, sizes=[3, 8, 12, 40], n_subsets=4, n_pairs=500, seed=3)
    assert curve.n_free.tolist() == [9, 4, 0, 0]
    assert curve.rms[2:].max() < PROMISED
    assert curve.pearson[2:].min() > 1 - PROMISED
    assert (np.diff(curve.length.mean(axis=1)) > -PROMISED).all()
    # The same draws by hand: pairs first, then an order of the texts for each subset.
    rng = np.random.default_rng(3)
    i, j = rng.integers(np.full(500, 60)), rng.integers(np.full(500, 59))
    j = j + (j >= i)
    basis, _ = np.linalg.qr(T[rng.permutation(40)[:8]].T)
    Z = X @ basis
    found, truth = (Z[i] * Z[j]).sum(axis=1), (X[i] * X[j]).sum(axis=1)
    # Sums over 12 terms in another order, and the pseudo-inverse's condition of about 10.
    assert curve.rms[1, 0] == pytest.approx(np.sqrt(np.mean((found - truth) ** 2)), abs=1e-12)
    assert curve.pearson[1, 0] == pytest.approx(np.corrcoef(found, truth)[0, 1], abs=1e-12)
    assert curve.spread == pytest.approx(truth.std(), abs=1e-12)


def test_the_rows_carry_errors_over_the_subsets(rng):
    curve = curve_of(
        draw(rng, 30, 6), draw(rng, 20, 6), sizes=[2, 6, 20], n_subsets=5, n_pairs=100
    )
    rows = curve.rows()
    assert rows[0]["rms"] == pytest.approx(curve.rms[0].mean())
    assert rows[0]["rms_error"] == pytest.approx(curve.rms[0].std(ddof=1) / np.sqrt(5))
    assert rows[2]["rms_error"] is None  # all texts: nothing was drawn
    assert [row["is_determined"] for row in rows] == [False, True, True]
    assert curve.to_dict()["curve"] == rows
    assert json.dumps(curve.to_dict(), allow_nan=False)
    assert curve.to_frame().shape == (15, 8)
    assert "determined from 6 anchors on" in repr(curve)
    assert "<table>" in curve._repr_html_()


def test_the_same_seed_gives_the_same_curve(rng):
    X, T = draw(rng, 30, 6), draw(rng, 20, 6)
    a, b, c = (curve_of(X, T, sizes=[3], seed=seed).to_dict() for seed in (1, 1, 2))
    assert a == b
    assert a["curve"] != c["curve"]


def test_default_sizes_are_shares_of_the_dimensions_up_to_all_texts(rng):
    X, T = draw(rng, 10, 32), draw(rng, 45, 32)
    curve = curve_of(X, T, n_subsets=1, n_pairs=10)
    assert curve.sizes.tolist() == [2, 4, 8, 16, 24, 32, 40, 45]


def test_of_many_images_a_sample_is_taken(rng):
    curve = curve_of(draw(rng, MAX_IMAGES + 10, 3), draw(rng, 5, 3), sizes=[2], n_pairs=50)
    assert curve.n_images == MAX_IMAGES


@pytest.mark.parametrize(
    ("X", "T", "options", "words"),
    [
        (np.eye(3), np.eye(4), {}, "images have 3 dimensions and texts 4"),
        (np.eye(3), np.eye(3), {"sizes": [4]}, "between 1 and the 3 texts, got 4"),
        (np.eye(3), np.eye(3), {"sizes": []}, "got none"),
        (np.eye(3)[:1], np.eye(3), {}, "at least 2 images"),
        (np.eye(3), np.diag([1, 1, 0]), {}, "row 2 of the texts is zero"),
        (np.full((3, 3), np.nan), np.eye(3), {}, "row 0 of the images"),
    ],
)
def test_a_curve_that_cannot_be_drawn_is_refused(X, T, options, words):
    with pytest.raises(InputError, match=words):
        curve_of(X, T, **options)


def test_the_job_measures_the_vectors_of_a_table_that_are_not_zero(rng):
    X, T = draw(rng, 30, 6), draw(rng, 20, 6)
    stored = np.vstack([X, np.zeros((2, 6))]).astype(np.float32)
    table = VectorTable(list(range(32)), {"raw": stored})
    options = {"sizes": [2, 6, 20], "seed": 3}
    found = recovery_curve(table, texts=T, subsets=4, pairs=100, **options)
    curve = curve_of(stored[:30], T, n_subsets=4, n_pairs=100, **options)
    assert (found.n_points, found.n_zero, found.run_id) == (30, 2, None)
    assert found.curve.to_dict() == curve.to_dict()
    printed = found.to_dict()
    assert (printed["collection"], printed["texts"]) == (None, "the array")
    assert printed["curve"] == curve.rows()
    assert json.dumps(printed, allow_nan=False)


def test_the_results_of_the_job_show_themselves(rng):
    table = VectorTable(list(range(30)), {"raw": draw(rng, 30, 6).astype(np.float32)})
    found = recovery_curve(table, texts=draw(rng, 20, 6), sizes=[2, 6], pairs=100)
    assert found.to_frame().equals(found.curve.to_frame())
    assert "'raw' from 'the array'" in repr(found)
    assert "determined from 6 anchors on" in repr(found)
    assert "<table>" in found._repr_html_()


def test_texts_without_a_tower_and_vectors_of_zeros_are_refused_by_the_job(rng):
    class Blind(ReadyTexts):
        def embed(self, prompts):
            return None

    table = VectorTable([1, 2], {"raw": np.eye(2, 6, dtype=np.float32)})
    with pytest.raises(ModelError, match="vit has no text tower"):
        recovery_curve(table, texts=Blind(np.eye(6, dtype=np.float32), "vit"))
    nothing = VectorTable([1, 2], {"raw": np.zeros((2, 6), dtype=np.float32)})
    with pytest.raises(InputError, match="the table has 0 points with a vector 'raw'"):
        recovery_curve(nothing, texts=np.eye(6))


@pytest.mark.real_data
def test_a_thousand_class_names_fix_the_similarities_of_real_pictures(real_data: Path):
    X = np.load(real_data / "cifar10-500-clip-b32" / "image_embeddings.npy")
    T = np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    curve = curve_of(X, T, sizes=[128, 1000], n_subsets=2, n_pairs=5000)
    assert curve.n_free.tolist() == [384, 0]
    assert curve.rms[1].max() < PROMISED
    assert curve.condition[1, 0] == pytest.approx(np.linalg.cond(unit(T)), rel=1e-6)
    # Far from determined, yet most of the order is there: the gap is in the length.
    assert 0.7 < curve.pearson[0].min() < curve.pearson[0].max() < 0.9
    assert curve.length[0].max() < 0.25


@pytest.mark.real_data
def test_five_hundred_real_pictures_are_too_few_without_anchors(real_data: Path):
    X = unit(np.load(real_data / "cifar10-500-clip-b32" / "image_embeddings.npy"))
    T = unit(np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy"))
    found = recover_without_anchors(T @ X.T, dim=512)
    assert found.n_unknowns == n_norms_needed(512)
    assert found.n_free == n_norms_needed(512) - 500
