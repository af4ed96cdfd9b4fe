"""How many dimensions of a projection are worth keeping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from intramodal.evaluation.ranking import rank
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.plots import Plot, sweep_plot
from intramodal.progress import tracked
from intramodal.projection.controls import all_directions
from intramodal.projection.projection import Projection
from intramodal.projection.stored_map import StoredMap
from intramodal.types import Floats, VectorTable, unit_rows

_SWEPT = 8
# Eighths of the dimensions, as far as the projection has them.


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

    def plot(self) -> Plot:
        """Return mAP by number of kept dimensions, the knee marked."""
        return Plot.of([sweep_plot(self.to_dict())])


def sweep_dimensions(
    table: VectorTable,
    task: RetrievalTask,
    Z: Floats,
    *,
    raw: str,
    dims: Sequence[int],
    margin: float = 0.005,
    known: Mapping[int | str, float] = MappingProxyType({}),
) -> DimensionSweep:
    """Return the mAP of a task by number of kept dimensions.

    Shapes: `Z` (n, k). What is known, by number of dimensions or for `raw`, is not ranked again.
    """

    def mean_ap(unit: Floats) -> float:
        G = unit[task.gallery_rows]
        # One array where they are the same rows: half of the products serve both of theirs.
        is_same = np.array_equal(task.query_rows, task.gallery_rows)
        ranking = rank(G if is_same else unit[task.query_rows], G, task.relevance, ks=())
        return float(ranking.ap.mean())

    found = {
        n: known[n] if n in known else mean_ap(unit_rows(Z[:, :n])) for n in sorted(set(dims))
    }
    raw_map = known[raw] if raw in known else mean_ap(table.unit(raw))
    best = max(found.values())
    return DimensionSweep(
        field=task.field,
        dims=list(found),
        map=list(found.values()),
        raw_map=raw_map,
        knee=min(n for n, value in found.items() if value >= best - margin),
        n_queries=len(task.query_rows),
    )


def sweeps(
    table: VectorTable,
    vectors: tuple[str, str],
    tasks: Sequence[RetrievalTask],
    projection: StoredMap | None,
    *,
    maps: Sequence[tuple[float, float]],
    texts: Floats | None,
    margin: float,
) -> list[DimensionSweep]:
    """Return one sweep over kept dimensions a task; none without a projection of texts alone.

    With the texts that it was fitted to the sweep goes on beyond the dimensions that it keeps.
    `maps` are those of both vectors, of each task.
    """
    if not isinstance(projection, Projection) or projection.labels is not None:
        return []
    raw, projected = vectors
    n_raw, n_kept = projection.dim_in, projection.dim_out
    if texts is not None:
        projection = all_directions(projection, texts)
    Z = projection.apply_to_unit(table.unit(raw))
    eighths = [round(n * n_raw / _SWEPT) for n in range(1, _SWEPT + 1)]
    dims = [max(1, n) for n in eighths if n < projection.dim_out] + [projection.dim_out]
    is_stored = _is_same(unit_rows(Z[:, :n_kept]), table.unit(projected))
    is_turn = projection.method == "pca"  # all dimensions together rank as the raw vector does
    wanted = [*dims, n_raw] if is_turn else dims
    found = []
    pairs = list(zip(tasks, maps, strict=True))
    for task, (raw_map, projected_map) in tracked(
        pairs, "dimensions", unit="field", name=lambda pair: pair[0].field
    ):
        known: dict[int | str, float] = {raw: raw_map}
        known |= {n_kept: projected_map} if is_stored else {}
        known |= {n_raw: raw_map} if is_turn else {}
        sweep = sweep_dimensions(table, task, Z, raw=raw, dims=wanted, margin=margin, known=known)
        found.append(sweep)
    return found


_ROUNDING = 1e-6
"""Of unit vectors in float32: they may have been projected in other batches."""


def _is_same(X: Floats, Y: Floats) -> bool:
    """Return whether vectors are the same up to rounding."""
    return X.shape == Y.shape and bool(np.allclose(X, Y, rtol=0, atol=_ROUNDING))
