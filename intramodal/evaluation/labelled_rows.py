"""Labelled rows of a collection that a map is fitted to: never those that judge it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, ManifestMismatchError
from intramodal.evaluation.held_out import fit_mask, signatures
from intramodal.evaluation.labels import encode_labels
from intramodal.evaluation.ranking import rank
from intramodal.evaluation.tasks import RetrievalTask, read_labelled, read_points
from intramodal.fit_rows import FitRows, bare_id, witnesses
from intramodal.projection.fit import Images, LabelledRows
from intramodal.projection.projection import Projection
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import own_vector
from intramodal.store.fields import value_at
from intramodal.store.manifest import VectorOrigin
from intramodal.types import VectorTable, declared_fingerprint, encoders_agree

FIT_SHARE = 0.5
"""Of all points, for fitting: the rest judges."""
MOST_READ = 200_000
"""Points that are read; of more, so many are drawn."""
WEIGHTS = (0.25, 0.5, 1.0, 2.0)
"""Of the axes between a field's values, among which labelled rows choose."""
_MOST_QUERIES = 2_000

Mask = NDArray[np.bool_]


def labelled_rows(
    collection: ImageCollection,
    field: str,
    *,
    rows: FitRows = FitRows(share=FIT_SHARE),
    vector: str | None = None,
    made_by: str | None = None,
    sample: int | None = MOST_READ,
    seed: int = 0,
) -> LabelledRows:
    """Return labelled rows of a collection for `fit_label_map` and `fit_posterior`.

    Parameters
    ----------
    collection : ImageCollection
        Or a `LabelledCollection`, whose labels are in a file.
    field : str
        Payload field with one label an image.
    rows : FitRows
        Which points are for fitting: by default half of them, by a hash of their ids. None of
        them, labelled or not, ever judges the map; all others give the mean of the images.
    vector : str, optional
        The encoder's own vector; by default the one that the collection says is it.
    made_by : str, optional
        Name of its model, for a collection that does not say: nothing is declared in it.
    sample : int, optional
        Of a collection with more points, so many are drawn and read.
    seed : int
        Of that draw.

    Raises
    ------
    InputError
        If the vector is projected, a point has several labels, or the labelled rows for fitting
        are of one class.
    ManifestMismatchError
        If nobody has declared which model made the vector, or it was another one.
    """
    own = own_vector(collection, vector)
    how: Any = {"rows": rows, "vector": own, "sample": sample, "seed": seed}
    how |= {"model": made_by}
    return FitTable.read(collection, [field], **how).labelled(field)


@dataclass(frozen=True, eq=False, repr=False)
class FitTable:
    """Points that were read once, and which of them are for fitting.

    Parameters
    ----------
    table : VectorTable
    vector : str
        The encoder's own vector.
    rows : FitRows
    is_fit : ndarray of shape (n,), bool
    made_by : (str, str)
        Name and fingerprint of the model; empty for a table, which does not say.
    name : str or None
        The collection's.
    """

    table: VectorTable
    vector: str
    rows: FitRows
    is_fit: Mask
    made_by: tuple[str, str]
    name: str | None

    @classmethod
    def read(
        cls,
        source: ImageCollection | VectorTable,
        fields: Sequence[str],
        *,
        rows: FitRows,
        vector: str,
        sample: int | None,
        seed: int,
        model: str | None = None,
    ) -> FitTable:
        """Read the points of several fields; raises as `labelled_rows`."""
        made_by, name = ("", ""), None
        if isinstance(source, ImageCollection):
            made_by, name = _made_by(source, vector, model), source.name
        needed = [] if rows.field is None else [rows.field]
        how: Any = {"optional": needed, "sample": sample, "seed": seed}
        table = _usable(read_labelled(source, [vector], fields, **how), vector)
        is_fit = fit_mask(table, [rows])
        if not is_fit.any():
            whose = "the table" if name is None else repr(name)
            raise InputError(f"no point of {whose} is for fitting: {rows}; give others")
        return cls(table, vector, rows, is_fit, made_by, name)

    def labelled(self, field: str) -> LabelledRows:
        """Return those for fitting that have a label, of however small a class."""
        places = np.flatnonzero(self.is_fit)
        column = [self.table.payload[field][row] for row in places]
        codes = encode_labels(column, field=field)
        if codes.is_multi:
            raise InputError(
                f"field {field!r} has several labels per image, and a map needs one; choose "
                f"another field"
            )
        X = self.table.vectors[self.vector]
        others, fitted_to = X[~self.is_fit], places[codes.rows]
        return LabelledRows(
            X[fitted_to],
            [codes.names[code] for code in codes.codes],
            field,
            self.rows,
            self.made_by,
            others if len(others) else None,
            {"collection": self.name, "vector": self.vector, "n_read": len(self.table)},
            self._witnesses(fitted_to),
        )

    def _witnesses(self, rows: NDArray[np.intp]) -> dict[str, str]:
        """Return a few of some rows (n,) as a map keeps them."""
        row_of = {self.table.ids[row]: row for row in rows.tolist()}
        points = witnesses(row_of)
        X = self.table.vectors[self.vector][[row_of[point] for point in points]]
        signed = zip(points, signatures(X), strict=True)
        return {bare_id(point): signature.tobytes().hex() for point, signature in signed}


def images_of(
    collection: ImageCollection,
    *,
    vector: str | None = None,
    made_by: str | None = None,
    sample: int | None = MOST_READ,
    seed: int = 0,
) -> Images:
    """Return the images of a collection for `fit_words`, which needs no labels.

    Parameters and errors are those of `labelled_rows`.
    """
    vector = own_vector(collection, vector)
    model = _made_by(collection, vector, made_by)
    table = _usable(read_points(collection, [vector], sample=sample, seed=seed), vector)
    facts = {"collection": collection.name, "vector": vector, "n_read": len(table)}
    return Images(table.vectors[vector], model, facts)


def value_names(collection: ImageCollection, field: str) -> list[str]:
    """Return the names of a payload field's values, ascending: all that `fit_words` is told.

    Raises `InputError` where there are fewer than two.
    """
    pages = collection.scroll(payload=[field])
    column = [value_at(payload, field) for page in pages for payload in page.payloads]
    return encode_labels(column, field=field).names


def word_weight(rows: LabelledRows, make: Callable[[float], Projection]) -> float:
    """Return the weight of a field's axes under which labelled rows find their own kind best.

    `make` fits the map of a weight; the mAP of every labelled row among all others decides.
    """
    found = {}
    for weight in WEIGHTS:
        Z = make(weight).apply(rows.X)
        table = VectorTable(list(range(len(Z))), {"words": Z}, {rows.field: list(rows.y)})
        task = RetrievalTask.from_table(table, rows.field, max_queries=_MOST_QUERIES)
        found[weight] = float(rank(*task.vectors(table, "words"), task.relevance, ks=()).ap.mean())
    return max(found, key=found.__getitem__)


def _made_by(collection: ImageCollection, vector: str, model: str | None) -> tuple[str, str]:
    """Return the model of the encoder's own vector; raise for one that is projected.

    `model` is what it is taken to be where the collection does not say.
    """
    if model is None:
        origin = collection.origin(vector)
    else:
        said = model, declared_fingerprint(model)
        origin = collection.manifest.vectors.get(vector, VectorOrigin(*said))
        if not encoders_agree(said, (origin.encoder, origin.encoder_fingerprint)):
            raise ManifestMismatchError(
                f"{vector!r} of {collection.name!r} was made by {origin.encoder}, not by {model}; "
                f"leave the model out"
            )
    if origin.projection:
        raise InputError(
            f"{vector!r} of {collection.name!r} is projected already; fit on the encoder's own "
            f"vector, {origin.source!r}"
        )
    return origin.encoder, origin.encoder_fingerprint


def _usable(table: VectorTable, vector: str) -> VectorTable:
    """Return the rows whose vector points somewhere."""
    X = table.vectors[vector]
    return table.take(np.flatnonzero(np.isfinite(X).all(axis=1) & X.any(axis=1)))
