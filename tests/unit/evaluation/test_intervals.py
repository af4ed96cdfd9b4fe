"""Intervals and p-values against enumeration, closed forms and simulation."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from intramodal.evaluation.intervals import (
    ALPHA_OF_LEVEL,
    DIFFERENCE,
    UNBOUNDED,
    LeftOut,
    bootstrap_t,
    group_jackknife,
    holm,
    resampled_t,
    sign_flip,
    student_interval,
    within,
)


def plain_p_value(sums: np.ndarray, sizes: np.ndarray, delta: float) -> float:
    """Return the sign-flip p-value of one supposed difference, by its definition."""
    residuals = sums - delta * sizes
    observed = abs(residuals.sum())
    totals = [
        abs((np.array(signs) * residuals).sum())
        for signs in itertools.product((1, -1), repeat=len(sums))
    ]
    return float(np.mean([total >= observed - 1e-12 for total in totals]))


# Multiples of 1/64: what differs does so by far more than the oracle's 1e-12.
clusters = st.lists(
    st.tuples(st.integers(-128, 128).map(lambda n: n / 64), st.integers(1, 9)),
    min_size=6,
    max_size=8,
)


@given(clusters)
def test_the_p_value_is_the_share_of_sign_patterns_as_extreme(
    rows: list[tuple[float, int]],
) -> None:
    sums, sizes = np.array(rows, dtype=float).T
    # Ties of totals are decided by rounding in either code: cases without any.
    expected = plain_p_value(sums, sizes, 0.0)
    margin = [plain_p_value(sums + e, sizes, 0.0) for e in (-1e-9, 1e-9)]
    if margin[0] == margin[1]:
        assert sign_flip(sums, sizes, seed=0).p_value == pytest.approx(expected)


@given(clusters)
def test_the_interval_holds_exactly_what_the_test_does_not_reject(
    rows: list[tuple[float, int]],
) -> None:
    sums, sizes = np.array(rows, dtype=float).T
    effect = sign_flip(sums / 20, sizes, seed=0)  # /20: inside of [-1, 1]
    low, high = effect.interval
    step = 1e-6
    if high - low > 4 * step:
        for inside in (low + step, high - step):
            assert plain_p_value(sums / 20, sizes, inside) >= ALPHA_OF_LEVEL
    for outside in (low - step, high + step):
        if -1 < outside < 1:
            assert plain_p_value(sums / 20, sizes, outside) < ALPHA_OF_LEVEL


@given(clusters, st.integers(0, 3))
def test_the_interval_excludes_zero_exactly_when_p_is_below_the_level(
    rows: list[tuple[float, int]], seed: int
) -> None:
    sums, sizes = np.array(rows * 3, dtype=float).T  # random patterns, not all
    effect = sign_flip(sums, sizes, seed=seed)
    excludes = effect.interval[0] > 0 or effect.interval[1] < 0
    assert excludes == (effect.p_value < ALPHA_OF_LEVEL)


@given(
    st.floats(-1, 1),
    st.lists(st.tuples(st.floats(-1, 1), st.integers(1, 9)), min_size=2, max_size=30),
    st.floats(0, 0.1),
)
def test_the_jackknifes_interval_excludes_zero_exactly_when_p_is_below_the_level(
    theta: float, rows: list[tuple[float, int]], extra: float
) -> None:
    without, sizes = np.array(rows, dtype=float).T
    effect = group_jackknife(theta, without, sizes, extra_variance=extra)
    excludes = effect.interval[0] > 0 or effect.interval[1] < 0
    assert excludes == (effect.p_value < ALPHA_OF_LEVEL)


def test_the_same_seed_gives_the_same_figures(rng: np.random.Generator) -> None:
    sums, sizes = rng.normal(size=30), np.ones(30)
    assert sign_flip(sums, sizes, seed=3) == sign_flip(sums, sizes, seed=3)
    assert sign_flip(sums, sizes, seed=3) != sign_flip(sums, sizes, seed=4)


def test_too_few_clusters_never_reject() -> None:
    effect = sign_flip(np.full(4, 0.5), np.ones(4), seed=0)
    assert effect.interval == (-1.0, 1.0)
    assert effect.p_value == 2 / 2**4


def test_the_sign_flip_interval_agrees_with_students_for_many_normal_clusters(
    rng: np.random.Generator,
) -> None:
    values = rng.normal(0.02, 0.1, 400)
    effect = sign_flip(values, np.ones(400), seed=0)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    # 10,000 patterns estimate a 2.5% tail to about 6% of itself: 0.03 standard errors.
    np.testing.assert_allclose(effect.interval, expected, atol=0.1 * 0.1 / 20)


def test_the_false_verdict_rate_is_five_percent_with_class_effects(
    rng: np.random.Generator,
) -> None:
    """Classes of unequal size share an effect; treating queries alone as units fails here."""
    sizes = np.repeat([2.0, 10.0, 50.0], 8)
    n_trials = 400
    rejected = sum(
        sign_flip(rng.normal(0, 1, 24) * sizes / 10, sizes, seed=i, n_resamples=999).p_value < 0.05
        for i in range(n_trials)
    )
    # The test is exact: the count is binomial.
    assert stats.binomtest(rejected, n_trials, 0.05).pvalue > 0.001


def test_the_jackknife_of_a_mean_is_students_t_test(rng: np.random.Generator) -> None:
    x = rng.normal(0.1, 0.3, 25)
    without = (x.sum() - x) / 24
    effect = group_jackknife(float(x.mean()), without, np.ones(25))
    expected = stats.ttest_1samp(x, 0)
    assert effect.p_value == pytest.approx(expected.pvalue)
    np.testing.assert_allclose(effect.interval, expected.confidence_interval(0.95))


def test_unequal_groups_of_a_mean_give_an_unbiased_variance(rng: np.random.Generator) -> None:
    """Over many samples the squared half-width is the variance of the mean."""
    sizes = np.array([1.0, 2, 3, 5, 8, 13, 21, 34] * 4)
    owner = np.repeat(np.arange(32), sizes.astype(int))
    errors = []
    for _ in range(300):
        x = rng.normal(size=len(owner)) / 10
        without = (x.sum() - np.bincount(owner, weights=x)) / (len(x) - sizes)
        low, high = group_jackknife(float(x.mean()), without, sizes).interval
        errors.append((high - low) / 2 / stats.t.ppf(0.975, 31))
    variance = 0.01 / len(owner)
    # 300 samples of a variance with 31 degrees of freedom or fewer: 5% either way is 3 sigma.
    assert np.mean(np.square(errors)) == pytest.approx(variance, rel=0.1)


def test_no_spread_at_all_is_certain() -> None:
    same = group_jackknife(0.25, np.full(10, 0.25), np.ones(10))
    assert same.interval == (0.25, 0.25)
    assert same.p_value == 0.0
    assert group_jackknife(0.0, np.zeros(10), np.ones(10)).p_value == 1.0


def test_one_group_that_is_the_whole_says_nothing_of_others() -> None:
    alone = group_jackknife(0.25, np.array([0.0]), np.ones(1))
    assert alone.interval == (-np.inf, np.inf)
    assert (alone.p_value, alone.units_needed(0.01)) == (1.0, None)


def test_the_range_of_a_figure_changes_its_interval_and_nothing_else() -> None:
    without = np.array([0.9, 0.1, 0.7, 0.3, 0.6])
    plain = group_jackknife(0.5, without, np.ones(5))
    assert plain.interval[1] > 1
    inside = LeftOut(without * 4, np.full(5, 4), np.ones(5)).effect(0.5)
    assert inside.interval == (max(-1.0, plain.interval[0]), 1.0)
    assert (inside.delta, inside.p_value, inside.error) == (0.5, plain.p_value, plain.error)
    assert inside.units_needed(0.01) == plain.units_needed(0.01)


def test_an_end_that_is_not_known_stays_so() -> None:
    assert np.isnan(within((float("nan"), float("nan")), DIFFERENCE)).all()
    assert within((-float("inf"), float("inf")), DIFFERENCE) == DIFFERENCE


def test_an_interval_inside_its_range_is_students(rng: np.random.Generator) -> None:
    x = rng.normal(0.5, 0.1, 20)
    expected = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    for bounds in (UNBOUNDED, (0.0, 1.0)):
        found = student_interval(float(x.mean()), float(stats.sem(x)), 20, bounds)
        assert found == pytest.approx(tuple(expected))


def test_holm_equals_its_definition() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    # Sorted: 4 * .005 = .02, 3 * .01 = .03, 2 * .03 = .06, then never below the one before.
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_the_number_needed_gives_that_power_for_normal_units(rng: np.random.Generator) -> None:
    x = rng.normal(size=400)
    x = (x - x.mean()) / x.std(ddof=1) * 0.1 + 0.005  # mean 0.005, standard error 0.1 / sqrt(n)
    effect = sign_flip(x, np.ones(400), seed=0)
    needed = effect.units_needed(effect.delta)
    assert needed is not None
    z = 0.005 * np.sqrt(needed) / 0.1
    assert stats.norm.sf(stats.norm.isf(0.025) - z) == pytest.approx(0.8, abs=0.03)


def test_nothing_is_enough_for_a_difference_of_zero() -> None:
    effect = sign_flip(np.array([1.0, -1.0] * 10), np.ones(20), seed=0)
    assert effect.units_needed(0.0) is None


@pytest.mark.parametrize("way", ["flips", "jackknife", "bootstrap-t"])
def test_the_interval_holds_what_its_own_p_value_does_not_reject(
    rng: np.random.Generator, way: str
) -> None:
    values = rng.exponential(0.1, 25) - 0.08
    ones = np.ones(25)
    effect = {
        "flips": lambda: sign_flip(values, ones, seed=0),
        "jackknife": lambda: group_jackknife(
            float(values.mean()), (values.sum() - values) / 24, ones
        ),
        "bootstrap-t": lambda: bootstrap_t(values, seed=0),
    }[way]()
    low, high = effect.interval
    assert low < effect.delta < high
    assert effect.p_at(0.0) == effect.p_value
    for end, outside in ((low, -1e-9), (high, 1e-9)):
        assert effect.p_at(end + outside) < 0.05 <= effect.p_at(end - outside)
    assert effect.p_at(effect.delta) == pytest.approx(1.0, abs=0.05)
    kept = pickle.loads(pickle.dumps(effect))  # results travel between processes
    assert kept.p_at(low) == effect.p_at(low)


def test_the_bootstrap_t_is_that_of_its_definition(rng: np.random.Generator) -> None:
    """Hall (1988): quantiles of the studentised resamples, here 1.25% a side."""
    values = rng.exponential(0.1, 12) - 0.05
    n, error = 12, values.std(ddof=1) / np.sqrt(12)
    counts = np.random.default_rng((3, n)).multinomial(n, np.full(n, 1 / n), size=10_000)
    drawn = [np.repeat(values, row) for row in counts]
    t = [(x.mean() - values.mean()) / (x.std(ddof=0) / np.sqrt(n - 1)) for x in drawn]
    low, high = (values.mean() - np.quantile(t, q) * error for q in (0.9875, 0.0125))
    effect = bootstrap_t(values, seed=3)
    assert effect.interval == pytest.approx((low, high), abs=2e-3 * error)
    assert (effect.n_units, effect.error) == (12, pytest.approx(error))


def test_the_bootstrap_t_holds_its_level_on_skewed_effects() -> None:
    """Each side errs by less than 3.5% where flipped signs err by 6 to 9% on one of them."""
    rng, n_trials = np.random.default_rng(1), 400
    found = [bootstrap_t(0.05 * (rng.exponential(1, 30) - 1), seed=0) for _ in range(n_trials)]
    for sign in (-1, 1):
        n = sum(effect.p_value < 0.05 and effect.delta * sign > 0 for effect in found)
        assert n <= stats.binom.isf(0.001, n_trials, 0.035)


def test_units_that_do_not_differ_are_certain_by_the_bootstrap_t() -> None:
    same = bootstrap_t(np.full(20, 0.01), seed=0)
    assert same.interval == pytest.approx((0.01, 0.01))
    assert same.p_value == 0.0
    assert bootstrap_t(np.zeros(20), seed=0).p_value == 1.0


def test_folds_that_share_training_rows_count_for_fewer(rng: np.random.Generator) -> None:
    values = rng.normal(0.1, 0.2, size=20)
    found = resampled_t(values, 1 / 4)
    # Nadeau and Bengio, equation 9: (1/J + n2/n1) times the variance over the J folds.
    error = np.sqrt((1 / 20 + 1 / 4) * values.var(ddof=1))
    half = stats.t.ppf(0.975, 19) * error
    np.testing.assert_allclose(found.interval, (values.mean() - half, values.mean() + half))
    p = 2 * stats.t.sf(abs(values.mean()) / error, 19)
    assert found.p_value == pytest.approx(p)
    plain = resampled_t(values, 0.0)
    naive = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(plain.interval, (naive.low, naive.high))


def test_folds_that_all_agree_leave_no_doubt() -> None:
    for value, p in ((0.25, 0.0), (0.0, 1.0)):
        found = resampled_t(np.full(20, value), 0.25)
        assert (found.interval, found.p_value) == ((value, value), p)
