"""Methods with text: their formulas, their grids and the search, against plain loops."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intramodal.evaluation.fewshot_text import METHODS
from intramodal.evaluation.rivals import tip as tip_x
from intramodal.evaluation.rivals.ape import ape_channels
from intramodal.evaluation.rivals.base import Episode
from intramodal.evaluation.rivals.coder import stretched
from intramodal.evaluation.rivals.tuning import APE, CODER, TIP_ADAPTER, right_counts
from intramodal.types import unit_rows
from tests.unit.evaluation.plain_text_methods import ape_channels_by_pairs, plain_method

K, D = 4, 16
TUNED = [name for name in METHODS if not name.endswith("zero-shot")]


def episode(
    n_shots: int = 3, n_tuning: int = 2, *, seed: int = 1, preset: str = "dtd", noise: float = 0.8
) -> Episode:
    """Return noisy images of four classes, and texts that are near but not where images are."""
    rng = np.random.default_rng(seed)
    size = n_shots + n_tuning + 4
    centres = rng.normal(size=(K, D))
    X = np.repeat(centres, size, axis=0) + noise * rng.normal(size=(K * size, D)) + 1.0
    turned = X @ np.linalg.qr(rng.normal(size=(D, D)))[0][:, :8]
    rows = np.arange(K * size).reshape(K, size)
    return Episode(
        X=unit_rows(X),
        Z=unit_rows(turned),
        W=unit_rows(centres + 0.9 * rng.normal(size=(K, D)) - 0.5),
        bank=unit_rows(rng.normal(size=(11, D)) + 0.3),
        # Names and attributes: one and two, three and none, one and none, two and two.
        owners=np.array([0, 0, 0, 1, 1, 1, 2, 3, 3, 3, 3]),
        is_name=np.array([1, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0], dtype=bool),
        shots=rows[:, :n_shots],
        validation=rows[:, n_shots : n_shots + n_tuning],
        tested=rows[:, n_shots + n_tuning :].ravel(),
        preset=preset,
    )


def assert_logits(found, expected) -> None:
    # Only differences between classes mean anything (LDA's are relative to the classes' mean).
    found, expected = found - found[:, :1], expected - expected[:, :1]
    # float32 sums of 16 terms here, float64 there; the largest term sets the rounding.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("preset", ["dtd", "imagenet"])
@pytest.mark.parametrize("n_shots", [2, 5])
@pytest.mark.parametrize("name", METHODS)
def test_logits_are_those_of_the_formula(name, n_shots, preset):
    seen = episode(n_shots, preset=preset)
    fitted = METHODS[name](seen)
    assert_logits(
        fitted.logits(seen.tested), plain_method(name, seen, seen.tested)(fitted.parameters)
    )


@pytest.mark.parametrize("name", METHODS)
def test_with_one_shot_logits_are_those_of_the_formula(name):
    seen = episode(1)
    fitted = METHODS[name](seen)
    constants, plain = dict(fitted.parameters), name
    if name == "lda+text":  # nothing scatters: class means, without the factor 100
        constants["alpha"] /= 100
        plain = "prototype+text"
    assert_logits(fitted.logits(seen.tested), plain_method(plain, seen, seen.tested)(constants))


def loops(start: float, stop: float, count: int) -> list[float]:
    """Return a grid as the published code writes it."""
    return [i * (stop - start) / count + start for i in range(count)]


def published_grid(name: str, preset: str) -> dict[str, list[float]]:
    """Return the grids of the constants, in the order of the published loops."""
    tip, ape = TIP_ADAPTER[preset], APE[preset]
    return {
        "tip-adapter": {
            "beta": loops(0.1, tip.beta_stop, 200), "alpha": loops(0.1, tip.alpha_stop, 20)
        },
        "tip-x": {
            "alpha": loops(0.1, 50, 20), "beta": loops(1, 50, 200), "gamma": loops(0.1, 30, 50)
        },
        "ape": {
            "beta": loops(0.1, ape.beta_stop, 200),
            "alpha": loops(0.1, ape.alpha_stop, 20),
            "gamma": loops(0, ape.gamma_stop, ape.n_gammas),
        },
        "lda+text": {"alpha": [1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100]},
        "prototype+text": {"alpha": [1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100]},
    }[name]  # fmt: skip


def searched(seen: Episode, name: str, grid: dict[str, list[float]]) -> dict[str, float]:
    """Return the first of the best constants by trying all of them on validation images."""
    logits = plain_method(name, seen, seen.tuning)
    best, most = {}, -1
    for values in itertools.product(*grid.values()):
        constants = dict(zip(grid, values, strict=True))
        n_right = int((logits(constants).argmax(axis=1) == seen.truth).sum())
        if n_right > most:
            best, most = constants, n_right
    return best


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", ["tip-adapter", "ape", "lda+text", "prototype+text"])
def test_constants_are_the_first_best_of_the_published_grid(name, seed):
    seen = episode(2, seed=seed, preset="imagenet", noise=1.5)
    expected = searched(seen, name, published_grid(name, "imagenet"))
    assert METHODS[name](seen).parameters == pytest.approx(expected)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tip_x_takes_the_first_best_of_its_grid(monkeypatch, seed):
    full = published_grid("tip-x", "dtd")
    for name, grid in full.items():
        assert getattr(tip_x, f"{name.upper()}S") == pytest.approx(grid)
    # Every fifth of each grid: the loop takes a second for 1,600 instead of 200,000 points.
    short = {name: grid[::5] for name, grid in full.items()}
    for name, grid in short.items():
        monkeypatch.setattr(tip_x, f"{name.upper()}S", np.array(grid))
    seen = episode(2, seed=seed, noise=1.5)
    assert METHODS["tip-x"](seen).parameters == pytest.approx(searched(seen, "tip-x", short))


def test_coder_searches_three_times_ever_closer():
    seen = episode(2, noise=1.5)
    ends = {"beta": (0.1, 200.0), "alpha": (0.1, 20.0)}
    for _ in range(3):
        grid = {name: loops(*ends[name], count) for name, count in (("beta", 500), ("alpha", 50))}
        best = searched(seen, "coder", grid)
        ends = {name: (0.5 * value, 1.5 * value) for name, value in best.items()}
    assert METHODS["coder"](seen).parameters == pytest.approx(best)


small = st.integers(-3, 3)


@given(data=st.data(), n_classes=st.integers(2, 5), m=st.integers(1, 6))
def test_one_pass_counts_what_every_weight_gets_right(data, n_classes, m):
    table = st.lists(
        st.lists(small, min_size=n_classes, max_size=n_classes), min_size=m, max_size=m
    )
    base, slope = (np.array(data.draw(table), dtype=np.float64) for _ in range(2))
    truth = np.array(data.draw(st.lists(st.integers(0, n_classes - 1), min_size=m, max_size=m)))
    # Whole numbers meet at fractions of at most 6; the grid passes between them.
    weights = np.arange(0.013, 7, 0.117)
    expected = [int(((base + w * slope).argmax(axis=1) == truth).sum()) for w in weights]
    assert right_counts(base, slope, truth, weights).tolist() == expected


@pytest.mark.parametrize("name", ["tip-adapter", "coder", "ape", "lda+text", "prototype+text"])
def test_without_validation_images_constants_are_the_published_ones(name):
    preset = "food101"
    tip, coder, ape = TIP_ADAPTER[preset], CODER[preset], APE[preset]
    expected = {
        "tip-adapter": {"alpha": tip.alpha, "beta": 1.0},
        "coder": {"alpha": coder.alpha, "beta": coder.beta},
        "ape": {"alpha": ape.alpha, "beta": 1.0, "gamma": 0.1},
    }.get(name, {"alpha": 1.0})
    seen = episode(2, 0, preset=preset)
    fitted = METHODS[name](seen)
    assert fitted.parameters == expected
    assert_logits(fitted.logits(seen.tested), plain_method(name, seen, seen.tested)(expected))


@pytest.mark.parametrize("name", TUNED)
def test_tested_images_and_their_order_do_not_choose_constants(name):
    seen = episode(3, noise=1.5)
    X, Z = seen.X.copy(), seen.Z.copy()
    rng = np.random.default_rng(5)
    for part in (X, Z):
        noise = rng.normal(size=(len(seen.tested), part.shape[1]))
        part[seen.tested] = unit_rows(noise)
    other = replace(seen, X=X, Z=Z, tested=seen.tested[::-1])
    assert METHODS[name](other).parameters == METHODS[name](seen).parameters


@pytest.mark.parametrize("name", METHODS)
def test_blocks_of_images_change_nothing(name):
    seen = episode(3)
    fitted = METHODS[name](seen)
    parts = [fitted.logits(seen.tested[i : i + 5]) for i in range(0, len(seen.tested), 5)]
    # Products of other shapes sum float32 terms in another order.
    assert_logits(np.concatenate(parts), fitted.logits(seen.tested))


def test_without_further_texts_coder_zero_shot_is_zero_shot():
    seen = episode()
    alone = replace(seen, bank=seen.W, owners=np.arange(K), is_name=np.ones(K, dtype=bool))
    found, expected = (
        METHODS[name](alone).logits(seen.tested) for name in ("coder-zero-shot", "zero-shot")
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)  # 100 times float32 rounding


@pytest.mark.parametrize("n_channels", [1, 5, 16])
def test_channels_are_those_of_the_pairwise_definition(rng, n_channels):
    W, keys = (unit_rows(rng.normal(size=(n, 16))) for n in (5, 15))
    keys = keys.reshape(5, 3, 16)
    found = ape_channels(W, keys, 0.7, 0.3, n_channels)
    assert found.tolist() == ape_channels_by_pairs(W, keys, (0.7, 0.3), n_channels)


def test_rows_without_spread_are_stretched_to_zero():
    rows = np.array([[0.2, 0.2, 0.2], [0.0, 0.5, 1.0], [-1.0, 3.0, 1.0]], dtype=np.float32)
    assert stretched(rows).tolist() == [[0, 0, 0], [0, 0.5, 1], [0, 1, 0.5]]


@pytest.mark.parametrize("name", METHODS)
def test_identical_shots_give_finite_logits(name):
    seen = episode(2)
    X = seen.X.copy()
    X[seen.shots.ravel()] = X[0]
    same = replace(seen, X=X, Z=X)
    assert np.isfinite(METHODS[name](same).logits(same.tested)).all()


def test_the_published_presets_cover_the_same_eleven_data_sets():
    assert len(TIP_ADAPTER) == 11
    assert set(TIP_ADAPTER) == set(CODER) == set(APE)
