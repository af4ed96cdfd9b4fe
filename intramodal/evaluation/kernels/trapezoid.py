"""What the revisited benchmark measures besides its average precision, from a query's scores.

Positions count from 0 among the images that count for the query: junk is removed before. Its code
ranks equal scores as they come; here a figure is its mean over all their orders, unless it says
otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from intramodal.types import Floats

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ranked:
    """One query's scores, parted by what they are of."""

    positive: Floats
    """(n_positives,): Of relevant images, falling."""
    negative: Floats
    """(n_negatives,): Of the others that count, rising."""

    @classmethod
    def of(cls, scores: Floats, positives: Ints, ignored: Ints) -> Ranked:
        """Part the scores (n_gallery,) of a query by the places of relevant and ignored images."""
        is_negative = np.ones(len(scores), dtype=bool)
        is_negative[positives] = is_negative[ignored] = False
        return cls(np.sort(scores[positives])[::-1], np.sort(scores[is_negative]))

    @property
    def best(self) -> Ints:
        """Positions (n_positives,) where relevant images come first among equal scores."""
        above = len(self.negative) - np.searchsorted(self.negative, self.positive, side="right")
        return np.asarray(above + np.arange(len(self.positive)))

    @property
    def worst(self) -> Ints:
        """Positions (n_positives,) where relevant images come last among equal scores."""
        above = len(self.negative) - np.searchsorted(self.negative, self.positive, side="left")
        return np.asarray(above + np.arange(len(self.positive)))

    def tie_width(self) -> float:
        """Return average precision with the best order of ties minus with the worst."""
        return float(trapezoids(self.best).mean() - trapezoids(self.worst).mean())

    def precisions(self, ks: Sequence[int], plain: Sequence[float]) -> list[float]:
        """Return the precision among the first k, or as far as the last relevant image, per k.

        `plain` are the precisions among the first k, which it is unless all of the relevant
        images may be among them.
        """
        return [self._precision(k, among_k) for k, among_k in zip(ks, plain, strict=True)]

    def _precision(self, k: int, among_k: float) -> float:
        n, last = len(self.positive), self.positive[-1]
        n_tied = int((self.positive == last).sum())
        n_group = n_tied + int((self.negative == last).sum())
        n_above = int((self.negative > last).sum()) + n - n_tied
        inside = min(k - n_above, n_group)
        if inside < 1:
            return among_k
        # The last relevant image stands at place j of the group, if that is inside, ...
        j = np.arange(n_tied, inside + 1)
        at = np.exp(_log_choose(j - 1, n_tied - 1) - _log_choose(n_group, n_tied))
        # ... or some of the group, fewer than are relevant, are inside.
        h = np.arange(max(0, inside - n_group + n_tied), min(inside, n_tied - 1) + 1)
        some = _log_choose(n_tied, h) + _log_choose(n_group - n_tied, inside - h)
        some = np.exp(some - _log_choose(n_group, inside))
        found = (at * n / (n_above + j)).sum() + (some * (n - n_tied + h)).sum() / k
        return float(found)


def _log_choose(n: Ints | int, k: Ints | int) -> Array:
    """Return the logarithm of the number of ways to choose k of n."""
    return np.asarray(
        gammaln(np.add(n, 1)) - gammaln(np.add(k, 1)) - gammaln(np.subtract(n, k) + 1)
    )


def trapezoids(positions: Ints, n_before: Ints | None = None) -> Array:
    """Return the mean of the precisions before and at each relevant image, (n_positives,).

    `positions` (n_positives,) rise; `n_before` are the relevant images before each, by default
    0, 1, 2, ... Their mean is the benchmark's average precision.
    """
    j = np.arange(len(positions)) if n_before is None else n_before
    before = np.where(positions > 0, j / np.maximum(positions, 1), 1.0)
    return np.asarray(0.5 * (before + (j + 1) / (positions + 1)))


def without_each(scores: Floats, positives: Ints, ignored: Ints) -> tuple[float, Array]:
    """Return average precision, and that without each gallery image (n_gallery,).

    Equal scores are ranked by place. NaN where nothing relevant is left.
    """
    kind = np.zeros(len(scores), dtype=np.int8)
    kind[positives], kind[ignored] = 1, -1
    order = np.argsort(-scores, kind="stable")
    order = order[kind[order] >= 0]
    is_relevant = kind[order] == 1
    r, n = np.flatnonzero(is_relevant), int(is_relevant.sum())
    j = np.arange(n)
    whole = np.concatenate([[0.0], np.cumsum(trapezoids(r))])
    # What follows a removed image moves up one position; after a relevant one, one fewer is ahead.
    up = _from_each(trapezoids(np.maximum(r - 1, 0)))
    fewer = _from_each(trapezoids(np.maximum(r - 1, 0), np.maximum(j - 1, 0)))
    ahead = np.cumsum(is_relevant) - is_relevant
    found = np.full(len(scores), whole[-1] / n)
    found[order] = (whole[ahead] + up[ahead]) / n
    left = whole[:-1] + fewer[1:]
    found[order[r]] = left / (n - 1) if n > 1 else np.nan
    return float(whole[-1] / n), found


def _from_each(values: Array) -> Array:
    """Return the sums (n + 1,) of the values (n,) from each place on."""
    return np.concatenate([np.cumsum(values[::-1])[::-1], [0.0]])
