"""Exact retrieval quality of a named vector, by any payload field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from intramodal.errors import InputError, MissingDependencyError
from intramodal.evaluation.ranking import DEFAULT_KS, Ranking, Ties, rank
from intramodal.evaluation.results import RetrievalResult
from intramodal.evaluation.retrieval_task import Mask, RetrievalTask
from intramodal.types import Floats, VectorTable


def evaluate_retrieval(  # noqa: PLR0913  settings with defaults
    table: VectorTable,
    *,
    vector: str,
    field: str,
    split: tuple[Mask, Mask] | None = None,
    ks: Sequence[int] = DEFAULT_KS,
    ties: Ties = "expected",
    min_class_size: int = 2,
    max_queries: int | None = None,
    seed: int = 0,
    device: str | None = None,
) -> RetrievalResult:
    """Return exact retrieval figures over the full ranking (paper, section 6).

    Parameters
    ----------
    table : VectorTable
        Of `ImageCollection.table`.
    vector : str
        The named vector; compared by cosine.
    field : str
        Payload field: relevant is what shares a value. A query never finds itself.
    split : pair of ndarray of shape (n,), bool, optional
        Query set against gallery; by default every picture asks all others (leave-one-out).
    ks : sequence of int
    ties : {"expected", "sklearn", "best", "worst", "id"}
        See `rank`.
    min_class_size : int
        Classes with fewer images are left out.
    max_queries, seed : int, optional
        Where more could ask, so many are drawn; the gallery stays whole.
    device : str, optional
        A torch device to rank on, for example ``"cuda"``; without it numba does, on the CPU.
    """
    task = RetrievalTask.from_table(
        table,
        field,
        split=split,
        min_class_size=min_class_size,
        max_queries=max_queries,
        seed=seed,
    )
    return run_task(task, table, vector, ks=ks, ties=ties, device=device)


def run_task(
    task: RetrievalTask,
    table: VectorTable,
    vector: str,
    *,
    ks: Sequence[int] = DEFAULT_KS,
    ties: Ties = "expected",
    device: str | None = None,
) -> RetrievalResult:
    """Return the figures of one vector for a task that several vectors share."""
    Q, G = (_moved(X, device) for X in task.vectors(table, vector))
    return result_of(task, table, rank(Q, G, task.relevance, ks=ks, ties=ties), vector, ties=ties)


def result_of(
    task: RetrievalTask,
    table: VectorTable,
    ranking: Ranking,
    vector: str,
    *,
    ties: Ties = "expected",
) -> RetrievalResult:
    """Return the ranking of a task's queries as the result of the vector of that name."""
    return RetrievalResult(
        vector=vector,
        field=task.field,
        protocol=task.protocol,
        query_ids=[table.ids[row] for row in task.query_rows],
        labels=task.query_labels(),
        ap=ranking.ap,
        metrics=ranking.figures,
        n_relevant=ranking.n_relevant,
        n_gallery=len(task.gallery_rows),
        n_without_positives=task.n_without_positives,
        tie_width=float(ranking.tie_width.mean()),
        ties=ties,
    )


def _moved(X: Floats, device: str | None) -> Any:
    """Return the array, or the tensor of it on a device."""
    if device is None:
        return X
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"ranking on {device!r} needs the package 'torch'; pip install 'intramodal[encoders]'"
        ) from error
    try:
        return torch.from_numpy(X).to(device)
    except (RuntimeError, AssertionError) as error:  # the latter: torch without CUDA
        raise InputError(
            f"cannot rank on {device!r}: {str(error).splitlines()[0]}; leave the device out to "
            f"rank on the CPU"
        ) from error
