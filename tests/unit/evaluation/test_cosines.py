"""Bands of histograms of cosines against plain jackknifes, scipy, and other collections."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student

from intramodal.evaluation import cosines as histogram_bands
from intramodal.evaluation.intervals import N_GROUPS, pooled
from intramodal.evaluation.misalignment import MisalignmentResult, misalignment_of
from intramodal.evaluation.resampling import Population
from intramodal.types import VectorTable, unit_rows

N, N_TEXTS = 80, 7
LISTS = [["x"], ["x", "y"], ["y", "z"], ["z"], ["x", "y", "z"], ["w"], ["w", "x"]]


@pytest.fixture
def table(rng: np.random.Generator) -> VectorTable:
    codes = np.arange(N) % 4
    X = rng.normal(size=(4, 10))[codes] + 1.5 * rng.normal(size=(N, 10))
    payload = {
        "label": [f"c{code}" for code in codes],
        "tags": [LISTS[i % len(LISTS)] for i in range(N)],
    }
    return VectorTable(list(range(N)), {"raw": X.astype(np.float32)}, payload)


def measured(
    table: VectorTable, units: np.ndarray, field: str = "label", **options: object
) -> MisalignmentResult:
    population = Population("images", units, "new pictures", "queries", seed=5)
    return misalignment_of(
        table, vector="raw", field=field, n_bins=12, population=population, **options
    )


def densities(cosines: list[float], edges: np.ndarray) -> np.ndarray:
    return np.histogram(cosines, bins=edges)[0] / len(cosines) / np.diff(edges)


def jackknife(whole: np.ndarray, without: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of the plain delete-a-group jackknife, of equal groups."""
    n = len(without)
    errors = np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    half = student.ppf(0.975, n - 1) * errors
    return np.maximum(whole - half, 0), np.maximum(whole + half, 0)


@pytest.mark.parametrize("field", ["label", "tags"])
@pytest.mark.parametrize("block", [2**21, 100])
def test_bands_are_the_jackknife_over_groups_of_pictures_with_all_their_pairs(
    table: VectorTable, field: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histogram_bands, "_N_COSINES", block)
    found = measured(table, np.arange(N), field)
    assert found.bands is not None
    X = unit_rows(table.vectors["raw"]).astype(np.float64)
    labels = [set(v if isinstance(v, list) else [v]) for v in table.payload[field]]
    group = pooled(np.arange(N), seed=5)
    assert set(np.bincount(group)) == {N // N_GROUPS}

    def histograms(left_out: int) -> list[np.ndarray]:
        kept = [i for i in range(N) if group[i] != left_out]
        pairs = [(X[i] @ X[j], bool(labels[i] & labels[j])) for i, j in combinations(kept, 2)]
        return [
            densities([c for c, is_same in pairs if is_same == wanted], found.edges)
            for wanted in (True, False)
        ]

    without = np.array([histograms(g) for g in range(N_GROUPS)])
    for which, band in enumerate((found.bands.a, found.bands.b)):
        expected = jackknife(histograms(-1)[which], without[:, which])
        np.testing.assert_allclose(band, expected, atol=1e-9)
    assert found.bands.speaks_of == "new pictures"


def test_bands_of_images_and_texts_leave_images_out_and_keep_the_texts(
    table: VectorTable, rng: np.random.Generator
) -> None:
    T = rng.normal(size=(N_TEXTS, 10)).astype(np.float32)
    found = measured(table, np.arange(N), texts=T).modality
    assert found is not None
    assert found.bands is not None
    X = unit_rows(table.vectors["raw"]).astype(np.float64)
    cosines, between = X @ X.T, X @ unit_rows(T).astype(np.float64).T
    group = pooled(np.arange(N), seed=5)

    def histograms(left_out: int) -> list[np.ndarray]:
        kept = np.flatnonzero(group != left_out)
        upper = np.triu_indices(len(kept), 1)
        images = cosines[np.ix_(kept, kept)][upper]
        return [densities(list(c), found.edges) for c in (images, between[kept].ravel())]

    without = np.array([histograms(g) for g in range(N_GROUPS)])
    for which, band in enumerate((found.bands.a, found.bands.b)):
        expected = jackknife(histograms(-1)[which], without[:, which])
        np.testing.assert_allclose(band, expected, atol=1e-9)


def test_units_are_left_out_whole_and_rows_outside_are_units_of_their_own(
    table: VectorTable,
) -> None:
    """Twenty copies of one picture are one piece of evidence, and the band says so."""
    units = np.where(np.arange(N) < N // 2, np.arange(N) // 4, -1)
    together = measured(table, units).bands
    alone = measured(table, np.arange(N)).bands
    assert together is not None
    assert alone is not None
    rows = histogram_bands.Units.of(Population("f", units, "", ""), np.arange(N)).groups
    for unit in range(N // 8):
        assert len(set(rows[units == unit])) == 1
    assert np.diff(together.a, axis=0).sum() != np.diff(alone.a, axis=0).sum()


def test_a_sample_of_pairs_has_wilsons_interval_in_every_bin(table: VectorTable) -> None:
    found = misalignment_of(table, vector="raw", field="label", n_bins=9, max_pairs=301)
    assert found.bands is not None
    widths = np.diff(found.edges)
    for band, density, n in (
        (found.bands.a, found.same_density, found.n_same),
        (found.bands.b, found.other_density, found.n_other),
    ):
        counts = np.rint(density * widths * n).astype(int)
        intervals = [binomtest(int(k), n).proportion_ci(method="wilson") for k in counts]
        expected = [[i.low for i in intervals] / widths, [i.high for i in intervals] / widths]
        np.testing.assert_allclose(band, expected, atol=1e-9)
    assert found.bands.speaks_of == "other samples of pairs"


def test_bands_are_as_wide_as_other_pictures_make_them() -> None:
    """In 80 collections of the same kinds, 95% bands are 2 t times the true deviation."""
    centres = np.random.default_rng(0).normal(size=(4, 4))
    densities, widths = [], []
    for seed in range(80):
        rng = np.random.default_rng(seed + 1)
        kinds = rng.integers(4, size=N)
        X = (centres[kinds] + 0.7 * rng.normal(size=(N, 4))).astype(np.float32)
        # The range of the cosines, and so the bins, stay.
        X[:3] = np.outer([1, -1, 1], np.eye(4)[0])
        labels = {"label": [f"c{kind}" for kind in kinds]}
        found = measured(VectorTable(list(range(N)), {"raw": X}, labels), np.arange(N))
        assert found.bands is not None
        densities.append([found.same_density[3:9], found.other_density[3:9]])
        widths.append(np.diff([found.bands.a, found.bands.b], axis=1)[:, 0, 3:9])
    true = 2 * student.ppf(0.975, N_GROUPS - 1) * np.std(densities, axis=0, ddof=1)
    # The deviation of 80 collections is known to 8%; the jackknife leans to the wide side.
    ratios = np.mean(widths, axis=(0, 2)) / true.mean(axis=1)
    assert np.all((ratios > 0.85) & (ratios < 1.35))


def test_all_pairs_without_a_population_have_no_band(table: VectorTable) -> None:
    found = misalignment_of(table, vector="raw", field="label")
    assert found.bands is None
    assert "speaks_of" not in found.to_dict()
    assert all("interval" not in part for part in found.to_dict()["parts"])
