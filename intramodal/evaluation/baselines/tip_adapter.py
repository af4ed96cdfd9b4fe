"""Zero-shot CLIP, and training-free Tip-Adapter (Zhang et al., ECCV 2022)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.baselines.cache import cache_logits
from intramodal.evaluation.baselines.episode import Episode, Fitted, Rows
from intramodal.evaluation.baselines.presets import TIP_ADAPTER
from intramodal.evaluation.baselines.search import (
    Grid,
    batches,
    first_best,
    right_counts,
    steps,
)
from intramodal.types import Floats


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
