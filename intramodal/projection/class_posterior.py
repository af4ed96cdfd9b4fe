"""The chance of each class given an image: Gaussian classes of one spread, and a temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from intramodal.projection.classes import Classes, Doubles, centred_blocks

TEMPERATURES = (0.03, 0.06, 0.125, 0.25, 0.5, 1.0)
"""Those among which the labelled rows choose; the smaller, the more even the chances."""
N_FOLDS = 4
_PRIOR = 0.5
"""Power of the class counts: 1 would be the classes' shares among the labelled rows."""


@dataclass(frozen=True, eq=False)
class ClassPosterior:
    """Chances of classes as a softmax of linear scores of centred unit rows.

    Parameters
    ----------
    weights : ndarray of shape (d, n_classes)
    bias : ndarray of shape (n_classes,)
    counts : ndarray of shape (n_classes,)
        Labelled rows of each class.
    temperature : float
    """

    weights: Doubles
    bias: Doubles
    counts: NDArray[np.int64]
    temperature: float

    @classmethod
    def fit(
        cls, X: NDArray[Any], codes: NDArray[np.int64], mean: Doubles, *, seed: int = 0
    ) -> ClassPosterior:
        """Fit to vectors `X` (n, d) of classes `codes` (n,), centred by `mean` (d,).

        The temperature is the one under which held-out rows are likeliest, in 4 folds.
        """
        folds = _folds(codes, seed)
        likelihood = np.zeros(len(TEMPERATURES))
        for fold in range(N_FOLDS):
            held_out = folds == fold
            if held_out.any():
                within = Classes.of(X[~held_out], codes[~held_out], mean)
                likelihood += _log_likelihoods(within, X[held_out], codes[held_out], mean)
        within = Classes.of(X, codes, mean)
        best = TEMPERATURES[int(likelihood.argmax())]
        return cls(*_scores(within, best), within.counts, best)


def _folds(codes: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the fold of each row (n,): drawn, and as even as can be within each class.

    The only row of a class is in none, -1: without it the class would be unknown.
    """
    drawn = np.random.default_rng(seed).permutation(len(codes))
    by_class = drawn[np.argsort(codes[drawn], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes))[:-1]])
    folds = np.empty(len(codes), dtype=np.int64)
    folds[by_class] = (np.arange(len(codes)) - starts[codes[by_class]]) % N_FOLDS
    folds[np.bincount(codes)[codes] == 1] = -1
    return folds


def _scores(within: Classes, temperature: float) -> tuple[Doubles, Doubles]:
    """Return weights (d, n_classes) and bias (n_classes,) of the classes' log chances."""
    whitened = within.whitened(within.means)
    halves = np.square(whitened).sum(axis=1) / 2
    prior = _PRIOR * np.log(within.counts)
    return temperature * within.whitened(whitened).T, prior - temperature * halves


def _log_likelihoods(
    within: Classes, X: NDArray[Any], codes: NDArray[np.int64], mean: Doubles
) -> Doubles:
    """Return the log-likelihood of rows `X` (m, d) of classes `codes` (m,) at each temperature."""
    total = np.zeros(len(TEMPERATURES))
    scores = [_scores(within, temperature) for temperature in TEMPERATURES]
    for rows, block in centred_blocks(X, mean):
        own = np.arange(len(block)), codes[rows]
        for at, (weights, bias) in enumerate(scores):
            total[at] += log_softmax(block @ weights + bias, axis=1)[own].sum()
    return total
