"""Classifiers of shots beside the texts: LDA (Wang et al., ICLR 2024) and class means."""

from __future__ import annotations

import numpy as np

from intramodal.errors import InputError
from intramodal.evaluation.classifiers import fit_lda, fit_prototypes
from intramodal.evaluation.rivals.base import LOGIT_SCALE, Episode, Fitted, Rows
from intramodal.evaluation.rivals.tuning import (
    LINEAR_WEIGHTS,
    PAPER_PRESET,
    PAPER_WEIGHT,
    first_best,
    right_counts,
)
from intramodal.types import Floats


def fit_lda_text(episode: Episode) -> Fitted:
    """Return LDA + text: ``100 x W + alpha (z w + b)``, w and b of `fit_lda` on the shots.

    Tuned over alpha in 1e-4, 1e-3, ..., 1e2; without validation images alpha is 1. With the
    paper's preset see `paper_rule`.
    """
    if episode.preset == PAPER_PRESET:
        return paper_rule(episode, _published_lda(episode))
    return _beside_texts(episode, fit_lda(episode.Z, episode.shots))


def fit_prototype_text(episode: Episode) -> Fitted:
    """Return class means + text: ``100 x W + alpha 100 z P^T``, P the unit means of the shots.

    The same rule as LDA + text, with the class means' cosines on the scale of the texts'. With
    projected z it is PCA← beside the texts. Tuned over alpha in 1e-4, 1e-3, ..., 1e2; without
    validation images alpha is 1. With the paper's preset see `paper_rule`.
    """
    if episode.preset == PAPER_PRESET:
        return paper_rule(episode, fit_prototypes(episode.Z, episode.shots))
    return _beside_texts(
        episode, np.float32(LOGIT_SCALE) * fit_prototypes(episode.Z, episode.shots)
    )


def paper_rule(episode: Episode, classifier: Floats) -> Fitted:
    """Return ``.5 z T + .5 (z w + b)``, as the paper's code mixes texts and shots (figure 6).

    Cosines to the texts are not times 100, nothing is tuned, and projected images are compared
    with projected texts: ``x P w``, P the projection back into the full space.
    """
    T = episode.T
    if T is None:
        raise InputError(
            "the preset 'paper' compares projected images with projected texts; give the "
            "projection that made the vector"
        )

    def logits(rows: Rows) -> Floats:
        Z = episode.Z[rows]
        of_shots = Z @ classifier[:, :-1].T + classifier[:, -1]
        return np.asarray(
            PAPER_WEIGHT * (Z @ T.T) + (1 - PAPER_WEIGHT) * of_shots, dtype=np.float32
        )

    return Fitted(logits, {"alpha": PAPER_WEIGHT})


def _published_lda(episode: Episode) -> Floats:
    """Return LDA's weights on the scale of the paper's code, which stays in the full space.

    Its inverse covariance is that many times larger as the full space has more dimensions. Without
    scatter within classes it is the prototype classifier, as everywhere here.
    """
    shots = episode.shots
    if (shots == shots[:, :1]).all():
        return fit_prototypes(episode.Z, shots)
    return np.float32(episode.X.shape[1] / episode.Z.shape[1]) * fit_lda(episode.Z, shots)


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
