"""Projected queries against stored vectors, ranked as a vector of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.held_out import fitted_by
from intramodal.evaluation.ranking import Reranking, score_blocks
from intramodal.evaluation.tasks import RetrievalTask, itself
from intramodal.runs.run import Run
from intramodal.store.collection import ImageCollection
from intramodal.store.query_side import QuerySide
from intramodal.types import Distance, FittedVector, Floats, VectorTable, unit_rows


def check_query_side(source: VectorTable | ImageCollection, side: QuerySide | None) -> None:
    """Raise unless a source can be searched with projected queries; see `QuerySide.check`."""
    if side is not None and isinstance(source, ImageCollection):
        side.check(source)


def fitted_sides(sides: Iterable[QuerySide | None]) -> dict[str, FittedVector]:
    """Return those of some query sides whose maps have seen labels, by their names."""
    found: dict[str, FittedVector] = {}
    for side in sides:
        if side is not None:
            seen = fitted_by([side.projection], [side.name], side.vector)
            found |= {name: replace(one, made=_projected(side)) for name, one in seen.items()}
    return found


def with_mapped_queries(table: VectorTable, side: QuerySide | None) -> VectorTable:
    """Return the table with the projected queries as a further vector, by the side's name."""
    if side is None:
        return table
    if side.name in table.vectors:
        raise InputError(
            f"the query side is called {side.name!r} and there is a vector of that name; leave "
            f"that vector out"
        )
    side.check_length(table.vectors[side.vector].shape[1])
    projection = side.projection
    makers: dict[str, Callable[[Floats], Floats]] = {
        side.name: lambda X: unit_rows(projection.query(X))
    }
    if side.rerank is not None or projection.labels is not None:
        makers[_projected(side)] = lambda X: unit_rows(projection.apply_to_unit(X))
    return table.with_made(side.vector, makers)


def asked_by(task: RetrievalTask, side: QuerySide | None) -> RetrievalTask:
    """Return the task that the stored vectors answer to the projected queries, too."""
    if side is None:
        return task
    reranked = {} if side.rerank is None else {side.name: (_projected(side), side.rerank)}
    return replace(
        task,
        answered_by={**task.answered_by, side.name: side.vector},
        reranked_by={**task.reranked_by, **reranked},
    )


def side_scores(
    table: VectorTable,
    side: QuerySide,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    distance: Distance,
) -> Iterator[tuple[int, int, Floats]]:
    """Yield (start, stop, scores) of some rows' projected queries with other rows, reranked.

    Scores are by cosine or dot product, (b, n_columns); no row takes a place in its own ranking.
    """
    stored = table.unit(side.vector) if distance == "Cosine" else table.vectors[side.vector]
    reranking = None
    if side.rerank is not None:
        Z = table.unit(_projected(side))
        place = np.full(len(table), -1, dtype=np.int64)
        place[columns] = np.arange(len(columns))
        reranking = Reranking(Z[rows], Z[columns], side.rerank, itself(place[rows]))
    yield from score_blocks(table.unit(side.name)[rows], stored[columns], None, reranking)


def distances_by_side(
    distances: Mapping[str, Distance], side: QuerySide | None
) -> dict[str, Distance]:
    """Return distances other than the cosine, that of projected queries as of their vector."""
    if side is None or side.vector not in distances:
        return dict(distances)
    return {**distances, side.name: distances[side.vector]}


def log_query_side(run: Run, side: QuerySide | None) -> None:
    """Record which projection the queries went through."""
    if side is not None:
        made = side.projection
        run.log_fingerprint("projection", side.name, made.fingerprint, made.recipe)


def _projected(side: QuerySide) -> str:
    """Return the name of the projected vectors, by which first places are reranked, too."""
    return f"{side.name} (projected)"
