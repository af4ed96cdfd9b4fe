"""Interval and p-value of a mean difference, from one procedure, for units that are dependent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

# scipy.stats has the same functions, at a second of imports and a hundred times the cost a call.
from scipy.special import bdtr, betaincinv, ndtr, ndtri, stdtr, stdtrit

from intramodal.types import short_repr

Array = NDArray[Any]

LEVEL = 0.95
ALPHA_OF_LEVEL = 0.05
"""1 - LEVEL, without the rounding of that difference."""
POWER = 0.8
_TAIL = ALPHA_OF_LEVEL / 2
N_RESAMPLES = 10_000
_ENUMERATE_UP_TO = 13
"""2^13 = 8,192 sign patterns: below `N_RESAMPLES`, so all are tried and nothing is random."""
_SIGNS_AT_ONCE = 4_000_000

Range = tuple[float, float]
"""Least and largest value that a figure can have."""
UNBOUNDED: Range = (-float("inf"), float("inf"))
FRACTION: Range = (0.0, 1.0)
"""Range of an accuracy, a precision, an overlap, an AUC, and of means of them."""
DIFFERENCE: Range = (-1.0, 1.0)
"""Range of the difference of two fractions."""
COSINE: Range = (-1.0, 1.0)
"""Range of a cosine, and of a correlation."""
NONNEGATIVE: Range = (0.0, float("inf"))


def within(ends: tuple[float, float], bounds: Range) -> tuple[float, float]:
    """Return the ends of an interval inside the range of its figure; NaN stays."""
    low, high = np.clip(ends, *bounds).tolist()
    return low, high


@dataclass(frozen=True)
class Effect:
    """A mean difference with its 95% interval and two-sided p-value."""

    delta: float
    interval: tuple[float, float]
    """Excludes zero exactly when ``p_value < 0.05``."""
    p_value: float
    n_units: int
    """Clusters or groups."""
    error: float | None = None
    """Standard error of the difference: few clusters give no interval, but a spread."""
    test: Callable[[float], float] | None = field(default=None, repr=False, compare=False)

    def within(self, bounds: Range) -> Effect:
        """Return the effect with its interval inside a range; p-value and error stay."""
        return replace(self, interval=within(self.interval, bounds))

    def p_at(self, difference: float) -> float:
        """Return the two-sided p-value of "the true difference is this one".

        By the procedure that gave interval and p-value; where none is kept, by normal theory.
        """
        if self.test is not None:
            return self.test(difference)
        error = self.error or 0.0
        if error == 0:
            return float(self.delta == difference)
        return 2 * normal_tail(abs(self.delta - difference) / error)

    def units_needed(self, distance: float, *, n_tests: int = 1) -> int | None:
        """Return how many units would tell, with 80% power, a difference so far from another.

        If the spread stays as it is, and the p-value is adjusted for `n_tests`. None if no number
        would.
        """
        error = self.error
        if error is None:
            error = (self.interval[1] - self.interval[0]) / 2 / -normal_quantile(_TAIL)
        if distance <= 0 or not 0 < error < float("inf"):
            return None
        z = normal_quantile(_TAIL / n_tests) + normal_quantile(1 - POWER)
        return max(self.n_units + 1, int(np.ceil(self.n_units * (error * z / distance) ** 2)))


@dataclass(frozen=True)
class Difference:
    """One figure under two vectors, and the difference B minus A."""

    a: float
    b: float
    effect: Effect

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "a": self.a,
            "b": self.b,
            "delta": self.effect.delta,
            "interval": list(self.effect.interval),
        }


@dataclass(frozen=True)
class Paired:
    """One figure's difference as a verdict takes it, and beside it the mean over queries.

    Where classes are resampled each class counts alike, and `by_query` is the other mean; it is
    None where the difference is the mean over queries itself.
    """

    difference: Difference
    by_query: Difference | None = None


@short_repr
@dataclass(frozen=True, eq=False)
class LeftOut:
    """A mean, or the means of a curve, without each unit.

    Sums (n_units,) or (n_units, n_values) and numbers (n_units,) of what they are the means of;
    `sizes` (n_units,) are the pictures in each unit.
    """

    sums: Array
    counts: Array
    sizes: Array

    def minus(self, other: LeftOut) -> LeftOut:
        """Return the same of the queries' differences to another vector's."""
        return replace(self, sums=self.sums - other.sums)

    def effect(self, theta: float) -> Effect:
        """Return the effect whose value on all pictures is `theta`, by `group_jackknife`.

        The means are of fractions, or of differences of fractions.
        """
        return group_jackknife(theta, *self.means()).within(DIFFERENCE)

    def effects(self, thetas: Array) -> list[Effect]:
        """Return the effects (n_values,) of several figures, as `effect`."""
        without, sizes = self.means()
        found = [group_jackknife(float(t), without[:, i], sizes) for i, t in enumerate(thetas)]
        return [effect.within(DIFFERENCE) for effect in found]

    def means(self) -> tuple[Array, Array]:
        """Return the means without each unit, and the units' sizes; of those that leave any."""
        used = (self.counts > 0) & (self.sizes > 0)
        return (self.sums[used].T / self.counts[used]).T, self.sizes[used].astype(float)


@dataclass(frozen=True)
class Interval:
    """The 95% interval of one figure, and whom it speaks of."""

    low: float
    high: float
    population: str
    """What the units are: classes, images, iid (queries), or the values of a payload field."""
    n_units: int
    """Clusters or groups that were resampled."""
    left_out: LeftOut | None = field(default=None, repr=False, compare=False)
    """Where units leave the gallery, too: what a comparison with another vector needs of them."""

    def shifted(self, by: float) -> Interval:
        """Return the interval of a fraction that lies by so much higher."""
        low, high = within((self.low + by, self.high + by), FRACTION)
        return replace(self, low=low, high=high)


def sign_flip(sums: Array, sizes: Array, *, seed: int, n_resamples: int = N_RESAMPLES) -> Effect:
    """Test and interval for sum(sums) / sum(sizes), by flipping the signs of whole clusters.

    The sums are of fractions or of differences of fractions.

    For a supposed difference d, the clusters' residuals (n_clusters,) are ``sums - d * sizes``; d
    is rejected if few sign patterns give a total as far from zero as the observed one. For one
    pattern the values of d that it does not speak against form an interval with closed ends, so
    p(d) is known for every d at once and inverting the test needs no search. Up to 13 clusters all
    patterns are tried, else `n_resamples` random ones.
    """
    low, high = _unrejected(sums, sizes, seed, n_resamples)
    p_at = partial(_share_unrejected, low, high)
    # d stays in the interval while at least this many patterns do not speak against it.
    n_least = int(np.ceil(ALPHA_OF_LEVEL * len(low) - 1e-9))
    ends = np.sort(low)[n_least - 1], np.sort(high)[-n_least]
    delta, n = float(sums.sum() / sizes.sum()), len(sums)
    squares = float(np.square(sums - delta * sizes).sum())
    error = float(np.sqrt(squares * n / max(1, n - 1)) / sizes.sum())
    return Effect(delta, within(ends, DIFFERENCE), p_at(0.0), n, error, p_at)


def _share_unrejected(low: Array, high: Array, difference: float) -> float:
    """Return the share of sign patterns that do not speak against a difference."""
    return float(np.mean((low <= difference) & (high >= difference)))


def group_jackknife(
    theta: float, without: Array, sizes: Array, *, extra_variance: float = 0.0
) -> Effect:
    """Test and interval from leaving groups out, by Student's t with n_groups - 1 degrees.

    The delete-a-group jackknife for groups of unequal size (Busing, Meijer and van der Leeden,
    Statistics and Computing 1999), from the difference on all pictures, those (n_groups,) without
    each group, and the pictures in each. `extra_variance` is that of what the groups do not vary,
    for example the draws of few-shot episodes.
    """
    n_groups = len(without)
    share = sizes.sum() / sizes  # how many groups of this size would make the whole
    if share.min() <= 1:  # one group is the whole: nothing tells how far others would lie
        return Effect(theta, UNBOUNDED, 1.0, n_groups, float("inf"), lambda _: 1.0)
    pseudo = share * theta - (share - 1) * without
    centre = n_groups * theta - float(((1 - 1 / share) * without).sum())
    variance = float(np.mean((pseudo - centre) ** 2 / (share - 1))) + extra_variance
    error = float(np.sqrt(variance))
    half = _half_width(error, n_groups)
    if error == 0:
        return Effect(theta, (theta, theta), float(theta == 0), n_groups, 0.0)
    p_at = partial(_student_p, theta, error, n_groups - 1)
    return Effect(theta, (theta - half, theta + half), p_at(0.0), n_groups, error, p_at)


def _student_p(theta: float, error: float, n_degrees: int, difference: float) -> float:
    return 2 * student_tail(abs(theta - difference) / error, n_degrees)


def resampled_t(values: Array, test_share: float) -> Effect:
    """Test and interval for the mean of differences (n_folds,) over folds of cross-validation.

    Folds share the rows that they are fitted to, so that their spread alone would make the
    interval too narrow: the variance is ``(1 / n_folds + test_share)`` times theirs, where
    `test_share` is rows that judge over rows that are fitted to (Nadeau and Bengio, Machine
    Learning 2003); Student's t.
    """
    n, delta = len(values), float(values.mean())
    error = float(np.sqrt((1 / n + test_share) * values.var(ddof=1)))
    if error <= _LEAST_ERROR:
        return Effect(delta, (delta, delta), float(abs(delta) <= _LEAST_ERROR), n, 0.0)
    half = _half_width(error, n)
    p_at = partial(_student_p, delta, error, n - 1)
    return Effect(delta, (delta - half, delta + half), p_at(0.0), n, error, p_at)


SIDE_OF_CLASSES = 0.0125
"""What each side of `bootstrap_t` may err by, half of what it says: class effects are skewed."""


def bootstrap_t(values: Array, *, seed: int, n_resamples: int = N_RESAMPLES) -> Effect:
    """Test and interval for the mean of values (n_units,), by resampling the units.

    The bootstrap-t (Efron, 1979; Hall, Annals of Statistics 1988): the mean over its standard
    error is compared with the same of the resamples, so that skewness moves both ends to the same
    side. Each side errs by 1.25%, so that with the skewed effects of real classes the interval
    still holds 95%; `p_at` is that of the same procedure, twice the two-sided one.
    """
    n = len(values)
    mean = float(values.mean())
    error = float(values.std(ddof=1) / np.sqrt(n))
    if error <= _LEAST_ERROR * max(1.0, abs(mean)):
        return Effect(mean, (mean, mean), float(mean == 0), n, 0.0)
    t = np.sort(_resampled_t(values - mean, seed, n_resamples))
    n_least = int(np.ceil(SIDE_OF_CLASSES * (len(t) + 1) - 1 - 1e-9))
    ends = mean - t[-n_least] * error, mean - t[n_least - 1] * error
    p_at = partial(_resampled_p, mean, error, t)
    return Effect(mean, within(ends, DIFFERENCE), p_at(0.0), n, error, p_at)


def _resampled_p(mean: float, error: float, t: Array, difference: float) -> float:
    """Return the p-value of a difference by the t of the resamples, ascending."""
    found = (mean - difference) / error
    below = np.searchsorted(t, found, side="right")
    above = len(t) - np.searchsorted(t, found, side="left")
    share = (1 + min(below, above)) / (1 + len(t))
    return float(min(1.0, share * ALPHA_OF_LEVEL / SIDE_OF_CLASSES))


_LEAST_ERROR = 1e-12
"""Of a mean: below it the units differ by rounding only."""


def _resampled_t(centred: Array, seed: int, n_resamples: int) -> Array:
    """Return mean over standard error of resamples of values (n,) whose mean is zero."""
    n, found = len(centred), []
    squares = np.square(centred)
    for counts in _resamples(n, seed, n_resamples):
        weights = counts.astype(np.float64)
        means = weights @ centred / n
        variances = np.maximum(weights @ squares / n - np.square(means), 0.0) / (n - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            # All drawn units alike: as far from the mean as can be, on its own side.
            found.append(means / np.sqrt(variances))
    t_values: Array = np.nan_to_num(np.concatenate(found), posinf=np.inf, neginf=-np.inf)
    return t_values


@lru_cache(maxsize=2)
def _resamples(n_units: int, seed: int, n_resamples: int) -> list[NDArray[np.uint16]]:
    """Return how often each unit is drawn (n, n_units), in blocks; the same for all pieces."""
    rng = np.random.default_rng((seed, n_units))
    n_rows = max(1, _SIGNS_AT_ONCE // n_units)
    sizes = [min(n_rows, n_resamples - start) for start in range(0, n_resamples, n_rows)]
    share = np.full(n_units, 1 / n_units)
    return [rng.multinomial(n_units, share, size=size).astype(np.uint16) for size in sizes]


_NORMAL_975 = 1.959964  # to six decimals, as all runs recorded it so far


def sampled_interval(
    row: Mapping[str, Any], name: str, bounds: Range
) -> tuple[float, float] | None:
    """Return the normal 95% interval of a sampled figure; None where all pairs were taken."""
    error = row["standard_errors"].get(name)
    if error is None or row[name] is None:
        return None
    ends = row[name] - _NORMAL_975 * error, row[name] + _NORMAL_975 * error
    return within(ends, bounds)


def student_interval(
    mean: float, error: float, n: int, bounds: Range
) -> tuple[float, float] | None:
    """Return the 95% interval of a mean of n draws with a standard error; None without one."""
    if not np.isfinite(error):
        return None
    half = _half_width(error, n)
    return within((float(mean - half), float(mean + half)), bounds)


def _half_width(error: float, n: int) -> float:
    """Return what a standard error over n draws is worth at 95%, by Student's t."""
    return float(stdtrit(n - 1, (1 + LEVEL) / 2) * error)


def student_tail(t: float, n_degrees: int) -> float:
    """Return the probability that Student's t of so many degrees of freedom exceeds t."""
    return float(stdtr(n_degrees, -t))


def drawn_interval(values: NDArray[np.float64], n_population: int) -> tuple[float, float]:
    """Return the normal 95% interval of a finite population's mean, by fractions drawn of it."""
    n = len(values)
    if n < 2:
        return float("nan"), float("nan")
    left = (n_population - n) / max(1, n_population - 1)
    error = float(values.std(ddof=1) * np.sqrt(left / n))
    mean = float(values.mean())
    return within((mean - _NORMAL_975 * error, mean + _NORMAL_975 * error), FRACTION)


def sign_test(n_for: int, n: int) -> tuple[tuple[float, float], float]:
    """Return the exact 95% interval of a share, and the p-value of "it is one half".

    Clopper and Pearson's interval; it excludes one half exactly when ``p < 0.05``.

    Examples
    --------
    >>> (low, high), p = sign_test(9, 10)
    >>> round(low, 3), round(high, 3), round(p, 4)
    (0.555, 0.997, 0.0215)
    """
    if n == 0:
        return (0.0, 1.0), 1.0
    low = float(betaincinv(n_for, n - n_for + 1, _TAIL)) if n_for else 0.0
    high = float(betaincinv(n_for + 1, n - n_for, 1 - _TAIL)) if n_for < n else 1.0
    tail = float(bdtr(min(n_for, n - n_for), n, 0.5))
    return (low, high), min(1.0, 2 * tail)


def normal_tail(z: float) -> float:
    """Return the probability that a standard normal variable exceeds z."""
    return float(ndtr(-z))


def normal_quantile(p: float) -> float:
    """Return the value that a standard normal variable stays below with probability p."""
    return float(ndtri(p))


def holm(p_values: list[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm, 1979), in the same order."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def _unrejected(sums: Array, sizes: Array, seed: int, n_resamples: int) -> tuple[Array, Array]:
    """Return, for every sign pattern, the ends of the differences it does not speak against.

    With D, N the totals and D', N' those under the pattern, it counts against a difference d
    unless |D' - d N'| >= |D - d N|, which holds between (D - D')/(N - N') and (D + D')/(N + N').
    """
    total, n = sums.sum(), sizes.sum()
    ends = []
    for signs in _patterns(len(sums), seed, n_resamples):
        flipped, flipped_n = signs @ sums, signs @ sizes
        with np.errstate(divide="ignore", invalid="ignore"):
            ends.append([(total - flipped) / (n - flipped_n), (total + flipped) / (n + flipped_n)])
    a, b = np.concatenate(ends, axis=1)
    # All signs alike give the observed total for every d: that pattern never speaks against one.
    same = ~(np.isfinite(a) & np.isfinite(b))
    low, high = np.minimum(a, b), np.maximum(a, b)
    low[same], high[same] = -np.inf, np.inf
    return low, high


def _patterns(n_clusters: int, seed: int, n_resamples: int) -> Any:
    """Yield blocks of sign patterns (n, n_clusters): all, or the observed one and random ones."""
    if n_clusters <= _ENUMERATE_UP_TO:
        bits = np.arange(2**n_clusters)[:, None] >> np.arange(n_clusters)
        yield 1.0 - 2.0 * (bits & 1)
        return
    yield np.ones((1, n_clusters))  # the observed one counts (Phipson and Smyth, 2010)
    rng = np.random.default_rng(seed)
    n_rows = max(1, _SIGNS_AT_ONCE // n_clusters)
    for start in range(0, n_resamples, n_rows):
        shape = (min(n_rows, n_resamples - start), n_clusters)
        yield 1.0 - 2.0 * rng.integers(0, 2, shape, dtype=np.int8)


N_GROUPS = 20
"""Groups that are left out in turn: standard errors to about 16%, and t of 19 degrees."""


def pooled(units: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """Return the random group, of at most `N_GROUPS`, of each row by its unit; -1 stays."""
    n_units = int(units.max()) + 1
    numbers = np.arange(n_units) % min(N_GROUPS, n_units)
    group = np.random.default_rng(seed).permutation(numbers)
    return np.where(units >= 0, group[units], -1)


def pointwise(whole: Array, without: Array, sizes: Array) -> Array:
    """Return the 95% interval (2, n_values) of each value, a fraction, of a curve by itself.

    From the curve, the curves (n_groups, n_values) without each group, and the groups' sizes.
    """
    ends = [
        group_jackknife(float(value), without[:, i], sizes).within(FRACTION).interval
        for i, value in enumerate(whole)
    ]
    return np.array(ends, dtype=np.float64).reshape(-1, 2).T
