"""Texts that ask for images, ⟨T, I⟩: one prompt a class against all images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.intervals import Interval
from intramodal.evaluation.ranking import (
    Groups,
    Lists,
    Ranking,
    Relevance,
    Ties,
    as_lists,
    leave_group_out,
    rank,
)
from intramodal.evaluation.resampling import Population, interval_population
from intramodal.evaluation.retrieval import RetrievalResult
from intramodal.evaluation.tasks import RetrievalTask, encode_labels, require_read
from intramodal.evaluation.views import text_directions
from intramodal.types import Floats, VectorTable, unit_rows

NOTHING: NDArray[np.int64] = np.empty(0, dtype=np.int64)
NO_ROWS: NDArray[np.intp] = np.empty(0, dtype=np.intp)


def class_names(table: VectorTable, field: str, *, min_class_size: int = 1) -> list[str]:
    """Return the classes of a label field, in the order in which their texts are expected."""
    require_read(table, fields=[field])
    return encode_labels(table.payload[field], min_class_size=min_class_size, field=field).names


def evaluate_text_retrieval(  # noqa: PLR0913  settings with defaults
    table: VectorTable,
    texts: Floats,
    *,
    vector: str,
    field: str,
    ks: tuple[int, ...] = (1, 5, 10),
    ties: Ties = "expected",
    min_class_size: int = 1,
    cluster: str | None = None,
    seed: int = 0,
) -> RetrievalResult:
    """Return how well the text of each class finds its images, over the full ranking.

    Parameters
    ----------
    table : VectorTable
        With the vector and the payload column `field`.
    texts : ndarray of shape (n_classes, d)
        Embeddings of the prompts of `class_names`, in the space of `vector`.
    vector, field : str
    ks : tuple of int
    ties : {"expected", "sklearn", "best", "worst", "id"}
    min_class_size : int
        Classes with fewer images are left out, as queries and as gallery.
    cluster, seed
        Of the interval, as in `evaluate_retrieval`: other classes would ask other texts, other
        pictures would be found by these.

    Returns
    -------
    RetrievalResult
        One query a class; its id and label are the class.

    Raises
    ------
    InputError
        If the texts do not fit the classes or the vector.
    """
    require_read(table, vectors=[vector], fields=[field])
    codes = encode_labels(table.payload[field], min_class_size=min_class_size, field=field)
    X = unit_rows(table.vectors[vector])[codes.rows]
    if texts.shape != (len(codes.names), X.shape[1]):
        raise InputError(
            f"field {field!r} has {len(codes.names)} classes and {vector!r} {X.shape[1]} "
            f"dimensions, got texts of shape {texts.shape}; give one text a class, in order"
        )
    owner = np.repeat(np.arange(len(codes)), np.diff(codes.indptr))
    members = [np.sort(owner[codes.indices == c]) for c in range(len(codes.names))]

    def positives(start: int, stop: int) -> Lists:
        return as_lists(members[start:stop])

    def ignored(start: int, stop: int) -> Lists:
        return as_lists([NOTHING] * (stop - start))

    relevance = Relevance(positives, ignored, len(members))
    T = text_directions(texts)
    ranking = rank(T, X, relevance, ks=ks, ties=ties)
    # No row of the table asks.
    task = RetrievalTask(field, "text-image", codes, NO_ROWS, codes.rows, NOTHING, relevance, 0)
    population = interval_population(table, task, cluster, seed=seed)
    interval = _interval(population, task, ranking, T, X) if population else None
    return RetrievalResult(
        vector=vector,
        field=field,
        protocol="text-image",
        query_ids=list(codes.names),
        labels=list(codes.names),
        ap=ranking.ap,
        metrics=ranking.figures,
        n_relevant=ranking.n_relevant,
        n_gallery=len(X),
        n_without_positives=0,
        tie_width=float(ranking.tie_width.mean()),
        ties=ties,
        interval=interval,
    )


def _interval(
    population: Population, task: RetrievalTask, ranking: Ranking, T: Floats, X: Floats
) -> Interval | None:
    n = len(T)
    groups = Groups(
        gallery=population.groups[task.gallery_rows],
        own=np.full(n, -1) if population.leaves_gallery else np.arange(n),
        query=np.full(n, -1),
        n_groups=population.n_groups,
    )
    return population.map_interval(
        ranking.ap, groups, lambda: leave_group_out(T, X, task.relevance, groups)
    )
