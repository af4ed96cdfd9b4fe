"""Tip-Adapter and Tip-X: how much the shots of each class speak for an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from intramodal.errors import InputError
from intramodal.evaluation.rivals.base import Episode, Fitted, Rows
from intramodal.evaluation.rivals.tuning import (
    TIP_ADAPTER,
    TIP_X_TEMPERATURE,
    Grid,
    batches,
    first_best,
    right_counts,
    steps,
)
from intramodal.types import Floats


def cache_logits(
    affinities: Floats, beta: float, n_shots: int, weights: NDArray[Any] | None = None
) -> Floats:
    """Return (m, K): ``exp(-beta (1 - affinity)) L``, L the one-hot labels of the shots.

    From affinities (m, K s) of images to shots, class after class; a shot's label may have a
    weight, of (K s,).
    """
    close = np.exp(np.float32(beta) * (affinities - 1))
    if weights is not None:
        close *= weights.astype(np.float32)
    return class_sums(close, n_shots)


def class_sums(values: Floats, n_shots: int) -> Floats:
    """Return the sums (m, K) of values (m, K s) over the shots of each class."""
    m, n_keys = values.shape
    return np.asarray(values.reshape(m, n_keys // n_shots, n_shots).sum(axis=2), dtype=np.float32)


def fit_zero_shot(episode: Episode) -> Fitted:
    """Return the classifier of the texts alone: ``100 x W``."""
    return Fitted(episode.zero_shot)


def fit_tip_adapter(episode: Episode) -> Fitted:
    """Return Tip-Adapter: ``100 x W + alpha exp(-beta (1 - x F^T)) L``.

    Tuned over beta, 200 steps from 0.1, and alpha, 20 steps from 0.1; how far both reach is the
    preset's.
    """
    preset = TIP_ADAPTER[episode.preset]
    beta, alpha = preset.beta, preset.alpha
    if episode.is_tuned:
        betas, alphas = steps(0.1, preset.beta_stop, 200), steps(0.1, preset.alpha_stop, 20)
        affinities = cosines(episode, episode.tuning)
        beta, alpha = first_best(cache_counts(episode, affinities, betas, alphas), betas, alphas)

    def logits(rows: Rows) -> Floats:
        cache = cache_logits(cosines(episode, rows), beta, episode.n_shots)
        return episode.zero_shot(rows) + np.float32(alpha) * cache

    return Fitted(logits, {"alpha": alpha, "beta": beta})


def cosines(episode: Episode, rows: Rows) -> Floats:
    """Return the cosines (m, K s) of images to shots."""
    return episode.X[rows] @ episode.keys.T


def cache_counts(
    episode: Episode, affinities: Floats, betas: Grid, alphas: Grid
) -> NDArray[np.int64]:
    """Return how many of the images that tune are right: (n_betas, n_alphas)."""
    base, truth = episode.zero_shot(episode.tuning), episode.truth
    counts = []
    for part in batches(betas, base.size):
        slopes = [cache_logits(affinities, beta, episode.n_shots) for beta in part.tolist()]
        counts.append(right_counts(base, np.stack(slopes), truth, alphas))
    return np.concatenate(counts)


ALPHAS = steps(0.1, 50, 20)
BETAS = steps(1, 50, 200)
GAMMAS = steps(0.1, 30, 50)

Divergence = Callable[[Rows], Floats]


def fit_tip_x(episode: Episode) -> Fitted:
    """Return Tip-X: ``100 x W + alpha exp(-beta (1 - x F^T)) L + gamma phi(-KL) L``.

    KL is the divergence of an image's signature ``softmax(x W / 0.5)`` from a shot's, and phi maps
    its range over all images at hand linearly to the range of their cosines to shots. So the
    images that are classified together (without their labels) have a say in each other's result,
    as published; ranges of validation images are never used for test images. Tuned over alpha, 20
    steps from 0.1 to 50, beta, 200 steps from 1 to 50, and gamma, 50 steps from 0.1 to 30; without
    validation images there is nothing published to take.
    """
    if not episode.is_tuned:
        raise InputError("tip-x has no published constants; keep validation images to tune it on")
    divergence = _divergence_from(episode)
    alpha, beta, gamma = _tuned(episode, divergence)
    spans = _spans(episode, divergence, episode.tested)

    def logits(rows: Rows) -> Floats:
        cache = cache_logits(cosines(episode, rows), beta, episode.n_shots)
        signed = class_sums(_affinities(divergence(rows), *spans), episode.n_shots)
        cached = episode.zero_shot(rows) + np.float32(alpha) * cache
        return np.asarray(cached + np.float32(gamma) * signed, dtype=np.float32)

    return Fitted(logits, {"alpha": alpha, "beta": beta, "gamma": gamma})


def _divergence_from(episode: Episode) -> Divergence:
    """Return the function from rows to KL (m, K s): sum p log p - p log q, a matrix product."""
    log_q = _log_signatures(episode, episode.shots.ravel())

    def divergence(rows: Rows) -> Floats:
        log_p = _log_signatures(episode, rows)
        p = np.exp(log_p)
        return np.asarray((p * log_p).sum(axis=1)[:, None] - p @ log_q.T, dtype=np.float32)

    return divergence


def _log_signatures(episode: Episode, rows: Rows) -> NDArray[np.float64]:
    # float64: divergences of similar images are differences of nearly equal numbers.
    scores = episode.X[rows].astype(np.float64) @ episode.W.T.astype(np.float64)
    return np.asarray(log_softmax(scores / TIP_X_TEMPERATURE, axis=1))


def _spans(
    episode: Episode, divergence: Divergence, rows: Rows
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the least and largest divergence, and cosine, of images to shots."""
    ends = [
        (part.min(), part.max())
        for block in episode.blocks(rows)
        for part in (divergence(block), cosines(episode, block))
    ]
    low, high = np.array(ends, dtype=np.float64).reshape(-1, 2, 2).transpose(2, 1, 0)
    (kl_low, cosine_low), (kl_high, cosine_high) = low.min(axis=1), high.max(axis=1)
    return (kl_low, kl_high), (cosine_low, cosine_high)


def _affinities(kl: Floats, kl_span: tuple[float, float], span: tuple[float, float]) -> Floats:
    width = kl_span[1] - kl_span[0]
    share = (kl - np.float32(kl_span[0])) / np.float32(width if width > 0 else 1.0)
    return np.asarray(-(span[0] + share * (span[1] - span[0])), dtype=np.float32)


def _tuned(episode: Episode, divergence: Divergence) -> tuple[float, ...]:
    rows, truth, s = episode.tuning, episode.truth, episode.n_shots
    base, near = episode.zero_shot(rows), cosines(episode, rows)
    spans = _spans(episode, divergence, rows)
    signed = class_sums(_affinities(divergence(rows), *spans), s)
    counts = np.empty((len(ALPHAS), len(BETAS), len(GAMMAS)), dtype=np.int64)
    for j, beta in enumerate(BETAS.tolist()):
        cache = cache_logits(near, beta, s)
        found = [
            right_counts(base + part[:, None, None] * cache, signed, truth, GAMMAS)
            for part in batches(ALPHAS, base.size)
        ]
        counts[:, j] = np.concatenate(found)
    return first_best(counts, ALPHAS, BETAS, GAMMAS)
