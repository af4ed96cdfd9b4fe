"""Histograms, overlap, AUC and gap equal direct computations over every pair."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from intramodal.errors import InputError
from intramodal.evaluation import cosines as pairs
from intramodal.evaluation.cosines import ClassPairs, Contrast, count_sample, draw_any, fine_bins
from intramodal.evaluation.labels import encode_labels
from intramodal.evaluation.misalignment import (
    VectorOf,
    measure_misalignment,
    misalignment_of,
    modality_gap,
)
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.projection.projection import Projection
from intramodal.projection.text_pca import TextPCA
from intramodal.types import VectorTable, unit_rows

FINE = 2 / pairs.N_FINE
LISTS = [["x"], ["x", "y"], ["y", "z"], ["z"], ["x", "y", "z"], ["w"], ["w", "x"]]


@pytest.fixture
def table(rng) -> VectorTable:
    codes = rng.integers(4, size=60)
    X = rng.normal(size=(4, 10))[codes] + 1.5 * rng.normal(size=(60, 10))
    return VectorTable(
        ids=list(range(60)),
        vectors={"raw": X.astype(np.float32)},
        payload={
            "label": [None if i % 20 == 0 else f"c{code}" for i, code in enumerate(codes)],
            "tags": [LISTS[i % len(LISTS)] for i in range(60)],
        },
    )


def all_cosines(table: VectorTable, field: str) -> tuple[np.ndarray, np.ndarray]:
    """Return every cosine and whether the pair shares a class, by a plain loop in float64."""
    X = table.vectors["raw"].astype(np.float64)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    labels = [v if isinstance(v, list) else [v] for v in table.payload[field]]
    rows = [i for i, label in enumerate(labels) if label != [None]]
    found = [
        (X[i] @ X[j], bool(set(labels[i]) & set(labels[j]))) for i, j in combinations(rows, 2)
    ]
    return np.array([c for c, _ in found]), np.array([s for _, s in found])


@pytest.mark.parametrize("field", ["label", "tags"])
def test_figures_equal_direct_computations_over_every_pair(table, field):
    result = misalignment_of(table, vector="raw", field=field, n_bins=30)
    cosines, is_same = all_cosines(table, field)
    same, other = cosines[is_same], cosines[~is_same]
    assert (result.n_same, result.n_other) == (len(same), len(other))
    # Every cosine is taken as the middle of its bin, and float32 adds a few 1e-7.
    assert result.same_mean == pytest.approx(same.mean(), abs=FINE)
    assert result.other_mean == pytest.approx(other.mean(), abs=FINE)
    spread = np.sqrt((same.var() + other.var()) / 2)
    assert result.d_prime == pytest.approx((same.mean() - other.mean()) / spread, abs=1e-4)
    assert abs(result.auc - roc_auc_score(is_same, cosines)) <= result.auc_error + 1e-12
    assert result.auc_error < 1e-5
    assert result.standard_errors == {}


def test_histograms_and_overlap_equal_numpy(table):
    result = misalignment_of(table, vector="raw", field="label", n_bins=30)
    cosines, is_same = all_cosines(table, "label")
    expected = [
        np.histogram(part, result.edges, density=True)[0]
        for part in (cosines[is_same], cosines[~is_same])
    ]
    # Equal counts: no cosine of this seed lies within float32 rounding of an edge.
    np.testing.assert_allclose(result.same_density, expected[0], rtol=1e-12)
    np.testing.assert_allclose(result.other_density, expected[1], rtol=1e-12)
    widths = np.diff(result.edges)
    overlap = (np.minimum(*expected) * widths).sum()
    assert result.overlap == pytest.approx(overlap, rel=1e-12)
    assert 0 < overlap < 1
    for density in (result.same_density, result.other_density):
        assert (density * widths).sum() == pytest.approx(1.0)
    assert result.edges[0] <= cosines.min() < result.edges[0] + 2 * FINE
    assert result.edges[-1] >= cosines.max()


@pytest.mark.parametrize("n_cosines", [1, 61, 1000])
@pytest.mark.parametrize("field", ["label", "tags"])
def test_block_sizes_change_nothing(table, monkeypatch, n_cosines, field):
    before = misalignment_of(table, vector="raw", field=field, texts=np.eye(3, 10))
    monkeypatch.setattr(pairs, "_N_COSINES", n_cosines)
    after = misalignment_of(table, vector="raw", field=field, texts=np.eye(3, 10))
    # Another block is another order of float32 sums: a cosine may move into the next fine bin.
    assert after.auc == pytest.approx(before.auc, abs=1e-5)
    assert after.n_same == before.n_same
    assert after.modality.text_mean == pytest.approx(before.modality.text_mean, abs=FINE)


def test_ties_count_one_half():
    table = VectorTable(
        ids=list(range(6)),
        vectors={"raw": np.eye(1, 3, dtype=np.float32).repeat(6, axis=0)},
        payload={"label": ["a", "b"] * 3},
    )
    result = misalignment_of(table, vector="raw", field="label")
    assert result.auc == 0.5
    assert result.auc_error == 0.5  # nothing is known about the order within one fine bin
    assert result.overlap == pytest.approx(1.0)
    assert np.isnan(result.d_prime)  # nothing varies
    assert result.to_dict()["d_prime"] is None


def test_classes_apart_have_no_overlap_and_a_full_auc():
    X = np.repeat(np.eye(3), 4, axis=0).astype(np.float32)
    table = VectorTable(list(range(12)), {"raw": X}, {"label": [i // 4 for i in range(12)]})
    result = misalignment_of(table, vector="raw", field="label")
    assert (result.auc, result.overlap) == (1.0, 0.0)
    assert result.same_mean == pytest.approx(1.0, abs=FINE)
    assert result.other_mean == pytest.approx(0.0, abs=FINE)


def test_modality_figures_equal_direct_computations(table, rng):
    texts = (rng.normal(size=(7, 10)) + 0.5).astype(np.float32)
    result = misalignment_of(table, vector="raw", field="label", texts=texts).modality
    rows = [i for i, label in enumerate(table.payload["label"]) if label is not None]
    X, T = unit_rows(table.vectors["raw"][rows]), unit_rows(texts)
    between = (X.astype(np.float64) @ T.T.astype(np.float64)).ravel()
    assert result.n_text == len(rows) * 7
    assert result.text_mean == pytest.approx(between.mean(), abs=FINE)
    cosines, _ = all_cosines(table, "label")
    assert result.n_image == len(cosines)
    assert result.image_mean == pytest.approx(cosines.mean(), abs=FINE)
    assert result.gap == pytest.approx(np.linalg.norm(X.mean(axis=0) - T.mean(axis=0)), abs=1e-6)
    parts = [np.histogram(part, result.edges, density=True)[0] for part in (cosines, between)]
    overlap = (np.minimum(*parts) * np.diff(result.edges)).sum()
    assert result.overlap == pytest.approx(overlap, rel=1e-12)


def test_the_gap_is_that_of_unit_rows_and_zero_for_equal_sets(rng):
    X = rng.normal(size=(9, 4))
    assert modality_gap(X, 3 * X) == pytest.approx(0.0, abs=1e-7)
    assert modality_gap(np.eye(2)[:1], 5 * np.eye(2)[1:]) == pytest.approx(np.sqrt(2), abs=1e-7)


def test_a_sample_estimates_the_figures_over_all_pairs_within_its_errors(table):
    exact = misalignment_of(table, vector="raw", field="tags", texts=np.eye(3, 10))
    names = ("overlap", "auc", "d_prime", "same_mean", "other_mean")
    scores = []
    for seed in range(60):
        sample = misalignment_of(
            table, vector="raw", field="tags", texts=np.eye(3, 10), max_pairs=1500, seed=seed
        )
        assert (sample.n_same, sample.n_other) == (750, 750)
        by_class = [
            (getattr(sample, n) - getattr(exact, n)) / sample.standard_errors[n] for n in names
        ]
        by_modality = [
            (getattr(sample.modality, n) - getattr(exact.modality, n))
            / sample.modality.standard_errors[n]
            for n in ("image_mean", "text_mean")
        ]
        scores.append(by_class + by_modality)
    found = np.array(scores)
    # Standardised errors over 60 seeds: the standard deviation of their deviation is
    # 1 / sqrt(120) = .09, of their mean 1 / sqrt(60) = .13; 4 of each. The overlap is a sum of
    # minima: its noise pulls it down, so of it only the spread is asked.
    assert found.std(axis=0) == pytest.approx(np.ones(7), abs=0.37)
    assert np.delete(found, 0, axis=1).mean(axis=0) == pytest.approx(np.zeros(6), abs=0.52)


def test_drawn_pairs_of_each_kind_are_equally_likely(rng):
    classes = ClassPairs(encode_labels(LISTS))
    kinds = {True: set(), False: set()}
    for i, j in combinations(range(len(LISTS)), 2):
        kinds[bool(set(LISTS[i]) & set(LISTS[j]))].add((i, j))
    for draw, expected in ((classes.draw_same, kinds[True]), (classes.draw_other, kinds[False])):
        i, j = draw(60_000, rng)
        drawn, counts = np.unique(np.sort(np.stack([i, j]), axis=0), axis=1, return_counts=True)
        assert {tuple(pair) for pair in drawn.T.tolist()} == expected
        share = len(i) / len(expected)
        assert abs(counts - share).max() < 4.5 * np.sqrt(share)  # Poisson, 11 or 10 pairs


def test_the_same_seed_gives_the_same_sample(table):
    a, b, c = (
        misalignment_of(table, vector="raw", field="label", max_pairs=200, seed=seed)
        for seed in (1, 1, 2)
    )
    assert a.to_dict() == b.to_dict()
    assert a.auc != c.auc


def test_a_sample_as_large_as_all_pairs_is_all_pairs(table):
    exact = misalignment_of(table, vector="raw", field="label")
    sample = misalignment_of(table, vector="raw", field="label", max_pairs=57 * 56 // 2)
    assert sample.to_dict() == exact.to_dict()


def test_rare_pairs_end_the_drawing_with_fewer(rng, monkeypatch):
    monkeypatch.setattr(pairs, "_N_DRAWS", 10)
    monkeypatch.setattr(pairs, "_N_ROUNDS", 5)  # and 100 for the 1000 that are wanted
    X = unit_rows(rng.normal(size=(50, 4)))
    tags = [["a", "b"] if i else ["c"] for i in range(50)]
    classes = ClassPairs(encode_labels(tags))
    counts = count_sample(X, X, 1000, classes.draw_other, rng)
    assert 0 < counts.sum() < 1000


def test_pairs_of_different_rows_are_drawn(rng):
    i, j = draw_any(1000, 2, rng)
    assert (i + j == 1).all()
    assert 400 < i.sum() < 600  # 6 standard deviations of a fair coin


def test_rounding_beyond_one_stays_in_the_last_bins():
    cosines = np.array([-1.0000001, -1.0, 1.0, 1.0000001], dtype=np.float32)
    assert fine_bins(cosines).tolist() == [0, 0, pairs.N_FINE - 1, pairs.N_FINE - 1]


def test_the_dictionary_is_what_a_report_draws(table):
    result = misalignment_of(table, vector="raw", field="label", texts=np.eye(3, 10))
    row = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert row["title"] == "raw by label"
    assert len(row["edges"]) == 81
    assert [len(part["density"]) for part in row["parts"]] == [80, 80]
    assert row["parts"][0]["label"] == f"same class (n={result.n_same:,} pairs)"
    assert row["parts"][1]["label"] == f"other class (n={result.n_other:,} pairs)"
    assert row["auc"] == result.auc
    assert len(row["modality"]["parts"]) == 2
    assert result.to_frame().shape == (80, 6)
    assert "raw" in repr(result)
    assert "<table>" in result._repr_html_()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vector": "pca"}, "without the vector 'pca', only with raw"),
        ({"field": "place"}, "without the field 'place'"),
        ({"texts": np.eye(4)}, r"shape \(n, 10\), as vector 'raw' is, got \(4, 4\)"),
        ({"texts": np.eye(10)[:3] * [[1], [0], [1]]}, "row 1 of the texts is zero"),
        ({"n_bins": 0}, "n_bins must be 1"),
        ({"max_pairs": 1}, "max_pairs 2"),
        ({"field": "unique"}, "no two points that share a class"),
        ({"field": "shared"}, "no two points that differ in class"),
        ({"field": "shared", "max_pairs": 10}, "no two points that differ in class"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(table, monkeypatch, options, words):
    monkeypatch.setattr(pairs, "_N_DRAWS", 1000)
    table.payload["unique"] = list(range(60))
    table.payload["shared"] = [["all", str(i % 2)] for i in range(60)]
    with pytest.raises(InputError, match=words):
        misalignment_of(table, **{"vector": "raw", "field": "label", **options})


def test_nan_is_refused(table):
    table.vectors["raw"][5, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        misalignment_of(table, vector="raw", field="label")


def test_a_contrast_of_few_counts_is_computed_by_hand():
    a, b = (np.zeros(pairs.N_FINE, dtype=np.int64) for _ in range(2))
    a[[10, 20]] = 1, 3
    b[[5, 10]] = 1, 1
    found = Contrast(a, b, n_bins=2)
    # Of 8 comparisons 7 are won and one is a tie.
    assert found.auc == pytest.approx(7.5 / 8)
    assert found.auc_error == pytest.approx(1 / 16)
    # Fine bins 5..20 in two of eight: {5..12} and {13..20}.
    np.testing.assert_allclose(np.diff(found.edges), 8 * FINE)
    assert found.overlap == pytest.approx(0.25)


def test_the_job_measures_every_field_and_vector_and_what_a_projection_makes_of_it(table):
    table.vectors["other"] = table.vectors["raw"][:, :6]
    half = Projection(np.eye(10, 4, dtype=np.float32), "pca", "clip", "3f9a")
    options = {"bins": 12, "max_pairs": 200, "seed": 1}
    found = measure_misalignment(
        table, vectors=["raw", "other"], fields=["label", "tags"], projections=[half], **options
    )
    views = [("raw", "stored"), ("pca", "projected"), ("other", "stored")]
    views.append(("pca_adjusted", "mean adjusted"))  # what is adjusted stands last
    shown = [(row["field"], row["vector"], row["view"]) for row in found]
    assert shown == [(field, *view) for field in ("label", "tags") for view in views]
    direct = misalignment_of(table, vector="other", field="tags", n_bins=12, max_pairs=200, seed=1)
    row = found["tags", "other"]
    assert {name: row[name] for name in direct.to_dict()} == direct.to_dict()
    ranked = evaluate_retrieval(table, vectors=["raw"], fields=["label"])
    assert found["label", "raw"]["map"] == ranked["label", "raw"].map
    facts = {"max_pairs": 200, "seed": 1, "where": None, "labels_from": None, "held_out": None}
    facts["run_id"] = None
    assert found.to_dict() == {**facts, "rows": found.rows}
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_each_vector_of_several_sources_takes_texts_of_its_own(table, rng):
    texts = [rng.normal(size=(4, 10)).astype(np.float32) for _ in range(2)]
    other = VectorTable(table.ids, {"image": table.vectors["raw"]}, table.payload)
    targets = [VectorOf(table, "raw", texts[0]), VectorOf(other, "image", texts[1])]
    found = measure_misalignment(targets, fields=["label"], with_map=False)
    for row, target, T in zip(found, targets, texts, strict=True):
        direct = misalignment_of(target.source, vector=target.vector, field="label", texts=T)
        assert (row["texts"], row["map"]) == ("the array", None)
        assert row["modality"] == direct.to_dict()["modality"]


def test_the_results_of_the_job_show_themselves(table):
    found = measure_misalignment(table, fields=["label"], with_map=False)
    assert found.to_frame()["auc"].tolist() == [found["label", "raw"]["auc"]]
    assert repr(found).startswith("'raw' by 'label', AUC 0.")
    assert "<td>–</td>" in found._repr_html_()  # no mAP was asked for


def test_a_projection_of_other_vectors_is_refused_by_the_job(table):
    other = Projection(np.eye(7, 4, dtype=np.float32), "pca", "siglip", "77aa")
    with pytest.raises(InputError, match="projects vectors of siglip"):
        measure_misalignment(table, fields=["label"], projections=[other])


@pytest.fixture(scope="module")
def cifar(real_data) -> tuple[VectorTable, dict[str, np.ndarray]]:
    folder = real_data / "cifar10-500-clip-b32"
    texts = unit_rows(np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy"))
    X = unit_rows(np.load(folder / "image_embeddings.npy"))
    fitted = TextPCA(256).fit(texts)
    vectors = {
        "raw": X,
        "pca": fitted.transform(X),
        "adjusted": fitted.adjust_mean(X, X.mean(axis=0)).astype(np.float32),
    }
    labels = np.load(folder / "image_labels.npy").tolist()
    table = VectorTable(list(range(len(X))), vectors, {"label": labels})
    return table, {"raw": texts, "pca": fitted.transform(texts)}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("vector", "auc", "same", "other", "gap"),
    [("raw", 0.842, 0.8295, 0.7506, 0.987), ("pca", 0.937, 0.5540, 0.2908, 0.809)],
)
def test_real_vectors_give_the_reference_figures(cifar, vector, auc, same, other, gap):
    table, texts = cifar
    result = misalignment_of(table, vector=vector, field="label", texts=texts[vector])
    # As printed in the reference: three and four decimals.
    assert result.auc == pytest.approx(auc, abs=6e-4)
    assert result.same_mean == pytest.approx(same, abs=6e-5)
    assert result.other_mean == pytest.approx(other, abs=6e-5)
    assert result.modality.gap == pytest.approx(gap, abs=6e-4)
    if vector == "raw":
        assert result.modality.text_mean == pytest.approx(0.199, abs=6e-4)


@pytest.mark.real_data
def test_mean_adjustment_moves_the_histograms_back_up(cifar):
    # Section 3.2 of the paper: lower cosines after projection come from shorter vectors.
    table, _ = cifar
    raw, pca, adjusted = (
        misalignment_of(table, vector=v, field="label") for v in ("raw", "pca", "adjusted")
    )
    assert pca.same_mean < raw.same_mean
    assert adjusted.same_mean > pca.same_mean + 0.2
    assert adjusted.other_mean > pca.other_mean + 0.2
