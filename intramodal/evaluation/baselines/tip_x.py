"""Tip-X: images compared by what they look like among the texts (SuS-X, ICCV 2023)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from intramodal.errors import InputError
from intramodal.evaluation.baselines.cache import cache_logits, class_sums
from intramodal.evaluation.baselines.episode import Episode, Fitted, Rows
from intramodal.evaluation.baselines.presets import TIP_X_TEMPERATURE
from intramodal.evaluation.baselines.search import batches, first_best, right_counts, steps
from intramodal.evaluation.baselines.tip_adapter import cosines
from intramodal.types import Floats

ALPHAS = steps(0.1, 50, 20)
BETAS = steps(1, 50, 200)
GAMMAS = steps(0.1, 30, 50)

Divergence = Callable[[Rows], Floats]


def fit_tip_x(episode: Episode) -> Fitted:
    """Return Tip-X: ``100 x W + alpha exp(-beta (1 - x F^T)) L + gamma phi(-KL) L``.

    KL is the divergence of an image's signature ``softmax(x W / 0.5)`` from a shot's, and phi
    maps its range over all images at hand linearly to the range of their cosines to shots.
    So the images that are classified together (without their labels) have a say in each other's
    result, as published; ranges of validation images are never used for test images.
    Tuned over alpha, 20 steps from 0.1 to 50, beta, 200 steps from 1 to 50, and gamma, 50 steps
    from 0.1 to 30.

    Raises
    ------
    InputError
        Without validation images: no constants are published.
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
