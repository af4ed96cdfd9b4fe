"""Frozen results of evaluations, with the per-query and per-episode arrays they rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.types import PointId


@dataclass(frozen=True)
class RetrievalResult:
    """Exact retrieval quality of one vector for one label field.

    Parameters
    ----------
    vector, field : str
        The named vector and the payload field that says what is relevant.
    protocol : str
        ``"leave-one-out"`` or ``"query-gallery"``.
    query_ids : list of str or int
        Queries that have at least one relevant gallery item, ascending.
    labels : list
        Label of each query (a tuple for multi-valued fields).
    ap : ndarray of shape (n_queries,)
        Average precision, expected over random orders of ties unless `ties` says otherwise.
    metrics : dict of str to ndarray of shape (n_queries,)
        Further per-query figures: "recall@1", "r_precision", "ap@r", "mrr", ...
    n_relevant : ndarray of shape (n_queries,)
    n_gallery : int
    n_without_positives : int
        Queries left out of the mean because nothing is relevant to them.
    tie_width : float
        mAP with best minus mAP with worst order of ties.
    ties : str
    """

    vector: str
    field: str
    protocol: str
    query_ids: list[PointId]
    labels: list[Any]
    ap: NDArray[np.float64]
    metrics: Mapping[str, NDArray[np.float64]]
    n_relevant: NDArray[np.int64]
    n_gallery: int
    n_without_positives: int
    tie_width: float
    ties: str = "expected"

    @property
    def map(self) -> float:
        """Mean average precision over the queries, a fraction."""
        return float(self.ap.mean()) if self.ap.size else float("nan")


@dataclass(frozen=True)
class FewshotResult:
    """Few-shot accuracy of one vector for one label field.

    Parameters
    ----------
    classifier : str
        ``"prototype"``, ``"lda"``, ...
    shots : tuple of int
    accuracy : ndarray of shape (n_shots, n_episodes)
        Micro accuracy of every episode; NaN where a shot count is not feasible.
    class_names : list of str
    class_accuracy : ndarray of shape (n_shots, n_classes)
        Mean over episodes.
    n_test : ndarray of shape (n_shots,)
        Mean number of test images an episode.
    seed : int
    """

    vector: str
    field: str
    classifier: str
    shots: tuple[int, ...]
    accuracy: NDArray[np.float64]
    class_names: list[str]
    class_accuracy: NDArray[np.float64]
    n_test: NDArray[np.float64]
    seed: int
    extra: Mapping[str, Any] = dataclass_field(default_factory=dict)
