"""Classifiers of shots beside the texts: LDA (Wang et al., ICLR 2024) and class means."""

from __future__ import annotations

import numpy as np

from intramodal.evaluation.classifiers import fit_lda, fit_prototypes
from intramodal.evaluation.rivals.base import LOGIT_SCALE, Episode, Fitted, Rows
from intramodal.evaluation.rivals.tuning import LINEAR_WEIGHTS, first_best, right_counts
from intramodal.types import Floats


def fit_lda_text(episode: Episode) -> Fitted:
    """Return LDA + text: ``100 x W + alpha (z w + b)``, w and b of `fit_lda` on the shots.

    Tuned over alpha in 1e-4, 1e-3, ..., 1e2; without validation images alpha is 1.
    """
    return _beside_texts(episode, fit_lda(episode.Z, episode.shots))


def fit_prototype_text(episode: Episode) -> Fitted:
    """Return class means + text: ``100 x W + alpha 100 z P^T``, P the unit means of the shots.

    The same rule as LDA + text, with the class means' cosines on the scale of the texts'. With
    projected z it is PCA← beside the texts. Tuned over alpha in 1e-4, 1e-3, ..., 1e2; without
    validation images alpha is 1.
    """
    return _beside_texts(
        episode, np.float32(LOGIT_SCALE) * fit_prototypes(episode.Z, episode.shots)
    )


def _beside_texts(episode: Episode, classifier: Floats) -> Fitted:
    def scores(rows: Rows) -> Floats:
        return episode.Z[rows] @ classifier[:, :-1].T + classifier[:, -1]

    alpha = 1.0
    if episode.is_tuned:
        rows = episode.tuning
        counts = right_counts(episode.zero_shot(rows), scores(rows), episode.truth, LINEAR_WEIGHTS)
        (alpha,) = first_best(counts, LINEAR_WEIGHTS)

    def logits(rows: Rows) -> Floats:
        return episode.zero_shot(rows) + np.float32(alpha) * scores(rows)

    return Fitted(logits, {"alpha": alpha})
