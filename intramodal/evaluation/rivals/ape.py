"""APE: Tip-Adapter on chosen channels, with shots weighted by how well texts know them.

Adaptive Prior rEfinement (Zhu et al., ICCV 2023), training-free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from intramodal.evaluation.rivals.base import Episode, Fitted, Rows
from intramodal.evaluation.rivals.tip import cache_logits
from intramodal.evaluation.rivals.tuning import (
    APE,
    PRESET_DIM,
    ApePreset,
    batches,
    first_best,
    right_counts,
    steps,
)
from intramodal.types import Floats, unit_rows

_EPS = 1e-6


def fit_ape(episode: Episode) -> Fitted:
    """Return APE: ``100 x W + alpha exp(-beta (1 - x' F'^T)) (L exp(gamma D))``.

    Primed rows are the chosen channels, at unit length; D is the divergence (in bits) of each
    shot's label from ``softmax(F' W')``. Tuned over beta, 200 steps from 0.1, alpha, 20 steps
    from 0.1, and gamma, 20 steps (ImageNet: 5) from 0; how far they reach is the preset's.
    The preset's number of channels is scaled with the length of the embeddings.
    """
    preset = APE[episode.preset]
    refined = _refined(episode, preset)
    beta, alpha, gamma = preset.beta, preset.alpha, preset.gamma
    if episode.is_tuned:
        beta, alpha, gamma = _tuned(episode, refined, preset)
    weights = np.exp(gamma * refined.divergence)

    def logits(rows: Rows) -> Floats:
        cache = cache_logits(refined.affinities(episode, rows), beta, episode.n_shots, weights)
        return episode.zero_shot(rows) + np.float32(alpha) * cache

    return Fitted(logits, {"alpha": alpha, "beta": beta, "gamma": gamma})


def ape_channels(
    W: Floats, keys: Floats, similarity_weight: float, variance_weight: float, n_channels: int
) -> NDArray[np.intp]:
    """Return the channels that tell classes apart, ascending; of equal ones the first.

    A channel's value is the weighted variance of the unit texts `W` (K, d) over classes, less the
    weighted mean product of two members of different classes; members are the text and the unit
    shots, `keys` (K, s, d).
    """
    K, n_members = len(W), 1 + keys.shape[1]
    S = W.astype(np.float64) + keys.sum(axis=1, dtype=np.float64)
    n_pairs = n_members**2 * K * (K - 1)
    similarity = (S.sum(axis=0) ** 2 - (S**2).sum(axis=0)) / n_pairs
    variance = W.astype(np.float64).var(axis=0, ddof=1)
    value = variance_weight * variance - similarity_weight * similarity
    return np.sort(np.argsort(-value, kind="stable")[:n_channels])


@dataclass(frozen=True, eq=False)
class _Refined:
    channels: NDArray[np.intp]
    keys: Floats
    divergence: NDArray[np.float64]

    def affinities(self, episode: Episode, rows: Rows) -> Floats:
        return unit_rows(episode.X[rows][:, self.channels]) @ self.keys.T


def _refined(episode: Episode, preset: ApePreset) -> _Refined:
    K, d = episode.W.shape
    n_channels = max(1, min(d, round(preset.n_channels * d / PRESET_DIM)))
    weights = preset.similarity_weight, preset.variance_weight
    keys = episode.keys.reshape(K, episode.n_shots, d)
    channels = ape_channels(episode.W, keys, *weights, n_channels)
    primed = unit_rows(episode.keys[:, channels])
    p = softmax((primed @ unit_rows(episode.W[:, channels]).T).astype(np.float64), axis=1)
    labels = np.repeat(np.arange(K), episode.n_shots)
    # Of the sum over classes only the shot's own is left: L log L is zero elsewhere.
    own = p[np.arange(len(labels)), labels]
    return _Refined(channels, primed, np.log2((1 + _EPS) / (own + _EPS)))


def _tuned(episode: Episode, refined: _Refined, preset: ApePreset) -> tuple[float, ...]:
    betas, alphas = steps(0.1, preset.beta_stop, 200), steps(0.1, preset.alpha_stop, 20)
    gammas = steps(0, preset.gamma_stop, preset.n_gammas)
    rows, truth = episode.tuning, episode.truth
    base, near = episode.zero_shot(rows), refined.affinities(episode, rows)
    by_class = refined.divergence.reshape(len(episode.W), episode.n_shots, 1)
    parts = [np.exp(by_class * part).astype(np.float32) for part in batches(gammas, base.size)]
    counts = np.empty((len(betas), len(gammas), len(alphas)), dtype=np.int64)
    for i, beta in enumerate(betas.astype(np.float32)):
        close = np.exp(beta * (near - 1))
        slopes = (_weighted_sums(close, weights) for weights in parts)
        counts[i] = np.concatenate([right_counts(base, S, truth, alphas) for S in slopes])
    return first_best(counts.transpose(0, 2, 1), betas, alphas, gammas)


def _weighted_sums(close: Floats, weights: Floats) -> NDArray[Any]:
    """Return (g, m, K) of values (m, K s) and weights (K, s, g) of the shots."""
    K, s, _ = weights.shape
    by_class = close.reshape(-1, K, s).transpose(1, 0, 2)
    return np.ascontiguousarray((by_class @ weights).transpose(2, 1, 0))
