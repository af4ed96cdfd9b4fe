"""What a projection makes of images and texts: projected, and with the lost mean put back.

Section 3.2 and equation 12 of arXiv 2603.16100.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.projection.projection import Projection
from intramodal.types import Floats, unit_rows

_NOT_ORTHONORMAL = 1e-3
"""float32 directions are orthonormal to about 1e-6."""


def text_directions(texts: NDArray[Any]) -> Floats:
    """Return texts (n, d) scaled to unit length.

    Raises
    ------
    InputError
        For a row of zeros, which points nowhere.
    """
    is_zero = ~np.any(texts, axis=1)
    if is_zero.any():
        raise InputError(
            f"row {int(is_zero.argmax())} of the texts is zero and points nowhere; embed it again"
        )
    return unit_rows(texts)


def project_texts(texts: NDArray[Any], projection: Projection) -> Floats | None:
    """Return texts (n, dim_out) in the space of the projected images, ``Q^T t``.

    Parameters
    ----------
    texts : ndarray of shape (n, dim_in)
        Of the projection's encoder; rows are normalised here.
    projection : Projection

    Returns
    -------
    ndarray or None
        None for a projection that subtracts the images' mean: texts have no part in it.

    Raises
    ------
    InputError
        For texts of another length.
    """
    T = np.asarray(texts)
    if T.ndim != 2 or T.shape[1] != projection.dim_in:
        raise InputError(
            f"this projection takes texts of shape (n, {projection.dim_in}), got {T.shape}; give "
            f"the text embeddings of {projection.encoder}"
        )
    if projection.offset is not None:
        return None
    return np.asarray(unit_rows(T) @ projection.matrix, dtype=np.float32)


def adjust_mean(
    X: NDArray[Any], projection: Projection, *, mean: NDArray[Any] | None = None
) -> Floats:
    """Return images projected within the full space, with the lost part of a mean put back.

    ``Q L Q^T x + Q (1 - L) Q^T mean`` (equation 12), where ``Q L Q^T`` is the projection's matrix
    times its transpose. Distances between rows are those of the projected images; cosines move
    back up, which shows that a histogram of cosines is no indicator. Texts are compared with
    these images as the encoder gave them.

    Parameters
    ----------
    X : ndarray of shape (n, dim_in)
        Images; rows are normalised here.
    projection : Projection
        With orthonormal directions; an offset makes no difference.
    mean : ndarray of shape (dim_in,), optional
        By default that of the unit rows of `X`.

    Raises
    ------
    InputError
        For images of another length, or directions that are not orthonormal.

    Examples
    --------
    >>> half = Projection(np.eye(2, 1, dtype=np.float32), "pca", "clip", "3f9a")
    >>> adjust_mean(np.array([[1.0, 0.0], [0.0, 1.0]]), half)
    array([[1. , 0.5],
           [0. , 0.5]], dtype=float32)
    """
    X = np.asarray(X)
    if X.ndim != 2 or X.shape[1] != projection.dim_in:
        raise InputError(
            f"this projection takes vectors of shape (n, {projection.dim_in}), got {X.shape}; "
            f"give the vectors of {projection.encoder}"
        )
    Q = projection.matrix
    off = np.abs(Q.T @ Q - np.eye(Q.shape[1], dtype=np.float32)).max()
    if off > _NOT_ORTHONORMAL:
        raise InputError(
            f"the directions of projection {projection.method!r} are not orthonormal (by "
            f"{off:.3g}), so they say nothing about a lost mean; adjust the mean of pca only"
        )
    unit = unit_rows(X)
    mu = unit.mean(axis=0, dtype=np.float64) if mean is None else np.asarray(mean, np.float64)
    lost = mu - Q @ (Q.T @ mu)
    return np.asarray(unit @ Q @ Q.T + lost, dtype=np.float32)
