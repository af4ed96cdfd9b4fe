"""How many dimensions of a projection are worth keeping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from intramodal.evaluation.ranking import rank
from intramodal.evaluation.retrieval_task import RetrievalTask
from intramodal.types import Floats, VectorTable, unit_rows


@dataclass(frozen=True)
class DimensionSweep:
    """mAP of the first dimensions of a projected vector.

    Parameters
    ----------
    field : str
    dims : list of int
        Ascending.
    map : list of float
        Of each number of dimensions.
    raw_map : float
        Of the vector that was projected.
    knee : int
        Fewest dimensions whose mAP is within `margin` of the best.
    n_queries : int
    """

    field: str
    dims: list[int]
    map: list[float]
    raw_map: float
    knee: int
    n_queries: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return dict(vars(self))


def sweep_dimensions(  # noqa: PLR0913  settings with defaults
    table: VectorTable,
    Z: Floats,
    *,
    raw: str,
    field: str,
    dims: Sequence[int],
    turns: bool = False,
    margin: float = 0.005,
    min_class_size: int = 2,
) -> DimensionSweep:
    """Return mAP by number of kept dimensions, leave-one-out.

    Parameters
    ----------
    table : VectorTable
        With the vector `raw` and the payload column `field`.
    Z : ndarray of shape (n, k)
        Projected vectors as the map gives them, not normalised: their columns are ordered, so
        the first of them are the vectors of a smaller projection.
    raw, field : str
    dims : sequence of int
        Numbers of columns of `Z` to keep.
    turns : bool
        Whether all directions together turn `raw` and drop nothing: as many dimensions as it has
        then give its mAP, and are swept, too.
    margin : float
        Difference in mAP that does not count.
    min_class_size : int
    """
    task = RetrievalTask.from_table(table, field, min_class_size=min_class_size)

    def mean_ap(X: Floats) -> float:
        unit = unit_rows(X)
        ranking = rank(unit[task.query_rows], unit[task.gallery_rows], task.relevance, ks=())
        return float(ranking.ap.mean())

    found = {n: mean_ap(Z[:, :n]) for n in sorted(set(dims))}
    raw_map = mean_ap(table.vectors[raw])
    if turns:
        found.setdefault(table.vectors[raw].shape[1], raw_map)
    best = max(found.values())
    return DimensionSweep(
        field=field,
        dims=list(found),
        map=list(found.values()),
        raw_map=raw_map,
        knee=min(n for n, value in found.items() if value >= best - margin),
        n_queries=len(task.query_rows),
    )
