"""Labelled rows of a collection that a map is fitted to: never those that judge it."""

from __future__ import annotations

from typing import Any

import numpy as np

from intramodal.errors import InputError
from intramodal.evaluation.held_out import fit_mask
from intramodal.evaluation.labels import encode_labels
from intramodal.evaluation.tasks import read_labelled
from intramodal.fit_rows import FitRows
from intramodal.projection.fit import LabelledRows
from intramodal.store.collection import ImageCollection
from intramodal.types import VectorTable

FIT_SHARE = 0.5
"""Of all points, for fitting: the rest judges."""
MOST_READ = 200_000
"""Points that are read; of more, so many are drawn."""
_LEAST_ROWS = 2
"""A class of one image shows no spread."""


def labelled_rows(
    collection: ImageCollection,
    field: str,
    *,
    rows: FitRows = FitRows(share=FIT_SHARE),
    vector: str = "raw",
    sample: int | None = MOST_READ,
    seed: int = 0,
) -> LabelledRows:
    """Return labelled rows of a collection for `fit_label_map` and `fit_posterior`.

    Parameters
    ----------
    collection : ImageCollection
        Or a `LabelledCollection`, whose labels are in a file.
    field : str
        Payload field with one label an image; classes of a single image are left out.
    rows : FitRows
        Which points are for fitting: by default half of them, by a hash of their ids. None of
        them, labelled or not, ever judges the map; all others give the mean of the images.
    vector : str
        The encoder's own vector.
    sample : int, optional
        Of a collection with more points, so many are drawn and read.
    seed : int
        Of that draw.

    Raises
    ------
    InputError
        If the vector is projected, a point has several labels, or no class has two labelled rows
        for fitting.
    ManifestMismatchError
        If nobody has declared which model made the vector.
    """
    origin = collection.origin(vector)
    if origin.projection:
        raise InputError(
            f"{vector!r} of {collection.name!r} is projected already; fit on the encoder's own "
            f"vector, {origin.source!r}"
        )
    needed = [] if rows.field is None else [rows.field]
    how: Any = {"optional": needed, "sample": sample, "seed": seed}
    table = _usable(read_labelled(collection, [vector], [field], **how), vector)
    is_fit = fit_mask(table, [rows])
    places = np.flatnonzero(is_fit)
    if not len(places):
        raise InputError(f"no point of {collection.name!r} is for fitting: {rows}; give others")
    codes = encode_labels(
        [table.payload[field][row] for row in places], min_class_size=_LEAST_ROWS, field=field
    )
    if codes.is_multi:
        raise InputError(
            f"field {field!r} has several labels an image, and a map tells classes apart that "
            f"each image has one of; choose a field with one"
        )
    X = table.vectors[vector]
    others = X[~is_fit]
    return LabelledRows(
        X[places[codes.rows]],
        [codes.names[code] for code in codes.codes],
        field,
        rows,
        (origin.encoder, origin.encoder_fingerprint),
        others if len(others) else None,
        {"collection": collection.name, "vector": vector, "n_read": len(table)},
    )


def _usable(table: VectorTable, vector: str) -> VectorTable:
    """Return the rows whose vector points somewhere."""
    X = table.vectors[vector]
    return table.take(np.flatnonzero(np.isfinite(X).all(axis=1) & X.any(axis=1)))
