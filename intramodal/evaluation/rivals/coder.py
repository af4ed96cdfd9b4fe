"""CODER: images described by their cosines to texts (Yi et al., CVPR 2024), training-free."""

from __future__ import annotations

import numpy as np

from intramodal.evaluation.rivals.base import LOGIT_SCALE, Episode, Fitted, Rows
from intramodal.evaluation.rivals.tip import cache_counts, cache_logits
from intramodal.evaluation.rivals.tuning import CODER, first_best, steps
from intramodal.types import Floats, unit_rows

N_ROUNDS = 3
"""Rounds of the search; each looks closer around the best of the one before."""


def fit_coder(episode: Episode) -> Fitted:
    """Return CODER: ``100 x W + alpha exp(-beta (1 - A)) L``.

    With ``c(x) = unit(x B^T)`` over the bank B of texts, A is ``c(x) c(F)^T``, each row stretched
    to [0, 1] over the shots. Tuned in three rounds over beta, 500 steps from 0.1 to 200, and
    alpha, 50 steps from 0.1 to 20; then from half to one and a half times the best.
    """
    preset = CODER[episode.preset]
    beta, alpha = preset.beta, preset.alpha
    keys = _described(episode, episode.shots.ravel())
    if episode.is_tuned:
        beta, alpha = _tuned(episode, stretched(_described(episode, episode.tuning) @ keys.T))

    def logits(rows: Rows) -> Floats:
        affinities = stretched(_described(episode, rows) @ keys.T)
        return episode.zero_shot(rows) + np.float32(alpha) * cache_logits(
            affinities, beta, episode.n_shots
        )

    return Fitted(logits, {"alpha": alpha, "beta": beta})


def fit_coder_zero_shot(episode: Episode) -> Fitted:
    """Return CODER's classifier of texts alone, ``heuristic_classifier`` of its published code.

    A class scores 100 times the mean of: the cosine to each of its attributes, and the highest
    cosine to one of its names. Without further texts that is zero-shot CLIP. The published second
    stage, which looks at the true labels to choose the images that it changes, is left out.
    """
    n_classes = len(episode.W)
    is_attribute = ~episode.is_name
    owners = episode.owners[is_attribute]
    sums = np.zeros(episode.W.shape, dtype=np.float64)
    np.add.at(sums, owners, episode.bank[is_attribute])
    attributes = sums.astype(np.float32)
    n_scores = (np.bincount(owners, minlength=n_classes) + 1).astype(np.float32)
    names = _names_by_rank(episode)

    def logits(rows: Rows) -> Floats:
        X = episode.X[rows]
        best = X @ names[0].T
        for others in names[1:]:
            np.maximum(best, X @ others.T, out=best)
        return np.asarray(LOGIT_SCALE * (best + X @ attributes.T) / n_scores, dtype=np.float32)

    return Fitted(logits)


def stretched(affinities: Floats) -> Floats:
    """Return every row of affinities (m, K s) stretched to [0, 1]; a constant one becomes 0."""
    low = affinities.min(axis=1, keepdims=True)
    width = affinities.max(axis=1, keepdims=True) - low
    return np.asarray((affinities - low) / np.where(width > 0, width, 1), dtype=np.float32)


def _names_by_rank(episode: Episode) -> list[Floats]:
    """Return the first names of all classes (K, d), the second, ...; the last one is repeated."""
    rows = np.flatnonzero(episode.is_name)
    own = [rows[episode.owners[rows] == k] for k in range(len(episode.W))]
    most = max(len(part) for part in own)
    return [episode.bank[[part[min(rank, len(part) - 1)] for part in own]] for rank in range(most)]


def _described(episode: Episode, rows: Rows) -> Floats:
    return unit_rows(episode.X[rows] @ episode.bank.T)


def _tuned(episode: Episode, affinities: Floats) -> tuple[float, float]:
    ends = [(0.1, 200.0), (0.1, 20.0)]
    best = (0.0, 0.0)
    for _ in range(N_ROUNDS):
        betas, alphas = (steps(*end, count) for end, count in zip(ends, (500, 50), strict=True))
        beta, alpha = first_best(cache_counts(episode, affinities, betas, alphas), betas, alphas)
        best = (beta, alpha)
        ends = [(0.5 * value, 1.5 * value) for value in best]
    return best
