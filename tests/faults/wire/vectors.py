"""Vectors of every kind, as the server keeps and tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from intramodal.types import Floats
from tests.faults.wire.errors import WireError

UNNAMED = ""

Definition = models.VectorParams | models.SparseVectorParams
Kept = NDArray[Any] | models.SparseVector
"""Dense ones have shape (d,), float32 or uint8; multivectors (rows, d)."""


def by_name(given: Any) -> Mapping[str, Any]:
    """Return the vectors of a point, or the columns of a batch, by name."""
    if isinstance(given, dict):
        return given
    return {} if given is None else {UNNAMED: given}


def kept(params: Definition, column: Sequence[Any], of: str = "") -> Sequence[Kept]:
    """Return vectors of one name as they are stored; `of` ends the text of a wrong dimension."""
    if isinstance(params, models.SparseVectorParams):
        return [_sparse(vector) for vector in column]
    if any(isinstance(vector, models.SparseVector) for vector in column):
        raise _conversion("sparse and regular")
    if params.multivector_config is not None:
        return [_matrix(params, v if _has_rows(v) else [v], of) for v in column]
    if any(map(_has_rows, column)):
        raise _conversion("multi and regular")
    X = _matrix(params, column, of)
    if params.distance == models.Distance.COSINE and X.dtype == np.float32:
        X = normalized(X)
    if params.datatype == models.Datatype.FLOAT16:
        X = X.astype(np.float16).astype(np.float32)
    return list(X)


def told(vector: Kept) -> Any:
    """Return a stored vector as JSON; whatever the datatype, in floats."""
    if isinstance(vector, models.SparseVector):
        return vector.model_dump()
    return vector.astype(np.float32).tolist()


def normalized(X: Floats) -> Floats:
    """Return unit rows; rows that are zero or of unit length already keep their bits."""
    squares = np.einsum("ij,ij->i", X, X)
    keep = (squares < np.finfo(np.float32).eps) | (np.abs(squares - 1) <= 1e-6)
    lengths = np.where(keep, np.float32(1), np.sqrt(squares))
    with np.errstate(invalid="ignore"):  # infinity by infinity is no number there, either
        return np.asarray(X / lengths[:, None], dtype=np.float32)


def _has_rows(vector: Any) -> bool:
    return not vector or isinstance(vector[0], list)


def _matrix(params: models.VectorParams, rows: Sequence[Any], of: str) -> NDArray[Any]:
    wrong = [len(row) for row in rows if len(row) != params.size]
    if wrong or not rows:
        text = f"expected dim: {params.size}, got {wrong[0] if wrong else 0}"
        raise WireError(400, f"Wrong input: Vector dimension error: {text}{of}")
    with np.errstate(over="ignore"):  # beyond float32 is infinity
        X = np.asarray(rows, dtype=np.float32)
    if params.datatype == models.Datatype.UINT8:
        return np.clip(X, 0, 255).astype(np.uint8)  # as Rust's `as`: cut off, not rounded
    return X


def _sparse(vector: Any) -> models.SparseVector:
    """Return the vector in the order of its indices."""
    if not isinstance(vector, models.SparseVector):
        raise _conversion("sparse and regular")
    if len(vector.indices) != len(vector.values):
        raise WireError(422, "Validation error: values: must be the same length as indices")
    if len(set(vector.indices)) != len(vector.indices):
        raise WireError(422, "Validation error: indices: must be unique")
    order = np.argsort(vector.indices)
    values = np.asarray(vector.values, dtype=np.float32)[order]
    return models.SparseVector(
        indices=[vector.indices[n] for n in order], values=[float(value) for value in values]
    )


def _conversion(kinds: str) -> WireError:
    return WireError(400, f"Wrong input: Conversion between {kinds} vectors failed")
