"""What runs beside the two compared vectors: controls of the same size, and fewer dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from intramodal.errors import InputError, ManifestMismatchError
from intramodal.evaluation.compare import sweep_dimensions
from intramodal.projection.controls import all_directions, apply_controls
from intramodal.projection.projection import Projection
from intramodal.store.collection import ImageCollection
from intramodal.store.origins import check_fitted_for
from intramodal.types import Floats, VectorTable

_SWEPT = 8
# Eighths of the dimensions, as far as the projection has them.


def load_for(collection: ImageCollection, vector: str, path: Path) -> Projection:
    """Load the projection that made a vector; refused if the file is another one."""
    projection, wanted = Projection.load(path), collection.origin(vector).projection
    if projection.fingerprint != wanted:
        made_by = f"projection {wanted[:12]}" if wanted else "an encoder"
        raise ManifestMismatchError(
            f"{path} is projection {projection.fingerprint[:12]}, but {vector!r} was made by "
            f"{made_by}; give the file it was made with"
        )
    return projection


def with_controls(
    collection: ImageCollection,
    table: VectorTable,
    vectors: Sequence[str],
    projection: Projection | None,
) -> tuple[VectorTable, tuple[str, ...]]:
    """Return the table with the controls of vector B as further vectors, and their names.

    There are none unless B was projected from A. Controls that need the texts' directions need
    the projection itself; the others need its size only.
    """
    a, b = vectors
    origin = collection.manifest.vectors.get(b)
    if origin is None or not origin.projection or origin.source != a:
        return table, ()
    X = table.vectors[a]
    size = np.eye(X.shape[1], table.vectors[b].shape[1], dtype=np.float32)
    like = projection or Projection(size, origin.method, origin.encoder, "")
    found = apply_controls(like, X, has_texts=projection is not None)
    controls = {name: Z for name, Z in found.items() if name not in table.vectors}
    return replace(table, vectors={**table.vectors, **controls}), tuple(controls)


def with_rivals(
    collection: ImageCollection, table: VectorTable, a: str, files: Sequence[Path]
) -> tuple[VectorTable, tuple[str, ...]]:
    """Return the table with vector A as other projections map it, and their names.

    Raises
    ------
    ManifestMismatchError
        If one was fitted for another model than made A.
    InputError
        If two have one name, or one that the table has.
    """
    found: dict[str, Floats] = {}
    for path in files:
        projection = Projection.load(path)
        check_fitted_for(projection, collection.origin(a))
        name = projection.default_vector
        if name in table.vectors or name in found:
            raise InputError(
                f"{path} makes a vector {name!r}, and there is one already; leave one out"
            )
        found[name] = projection.apply(table.vectors[a])
    return replace(table, vectors={**table.vectors, **found}), tuple(found)


def sweeps(
    table: VectorTable,
    raw: str,
    fields: Sequence[str],
    projection: Projection | None,
    *,
    texts: Floats | None,
    margin: float,
    min_class_size: int,
) -> list[dict[str, Any]]:
    """Return one sweep over kept dimensions a field; none without the projection.

    With the texts that it was fitted to the sweep goes on beyond the dimensions that it keeps.
    """
    if projection is None:
        return []
    if texts is not None:
        projection = all_directions(projection, texts)
    Z = projection.apply(table.vectors[raw])
    eighths = [round(n * projection.dim_in / _SWEPT) for n in range(1, _SWEPT + 1)]
    dims = [max(1, n) for n in eighths if n < projection.dim_out] + [projection.dim_out]
    return [
        sweep_dimensions(
            table,
            Z,
            raw=raw,
            field=field,
            dims=dims,
            turns=projection.method == "pca",
            margin=margin,
            min_class_size=min_class_size,
        ).to_dict()
        for field in fields
    ]
