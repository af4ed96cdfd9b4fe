"""Maps of the same size and no texts, so that "any halving would do" can be seen or ruled out.

All have the shape of PCA←: `Projection`. None is meant to be stored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.projection.directions import principal_directions
from intramodal.projection.projection import Projection
from intramodal.types import Floats

_SAME = 1e-3
"""Cosines of directions fitted twice to the same texts lie nearer to 1, whatever the threads."""


def random_projection(like: Projection, *, seed: int = 0) -> Projection:
    """Return a random orthogonal projection: what any halving does."""
    shape = (like.dim_in, like.dim_out)
    Q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=shape))
    return _control(like, "random", Q)


def truncation(like: Projection) -> Projection:
    """Return the map that keeps the first coordinates, as for Matryoshka embeddings."""
    return _control(like, "truncation", np.eye(like.dim_in, like.dim_out))


def bottom_components(like: Projection) -> Projection:
    """Return the directions that `like` drops: what is lost, on its own."""
    n_dropped = like.dim_in - like.dim_out
    if not n_dropped:
        raise InputError(f"{like!r} drops no direction, so nothing is left for a control")
    Q, _ = np.linalg.qr(like.matrix.astype(np.float64), mode="complete")
    return _control(like, "bottom", Q[:, like.dim_out :])


def image_pca(like: Projection, X: Floats) -> Projection:
    """Return the principal directions of unit images `X` (n, dim_in), not those of texts."""
    images = X.astype(np.float64)
    _, directions = principal_directions(images - images.mean(axis=0))
    return _control(like, "image_pca", directions[: like.dim_out].T)


def centring(like: Projection, X: Floats) -> Projection:
    """Return the map that subtracts the mean of unit images `X` (n, dim_in) and drops nothing."""
    return _control(like, "centring", np.eye(like.dim_in), offset=_mean(X))


def centred(like: Projection, X: Floats) -> Projection:
    """Return `like` after subtracting the mean of unit images `X` (n, dim_in): centred PCA←."""
    return _control(like, f"{like.method}_centered", like.matrix, offset=_mean(X))


def all_directions(like: Projection, texts: NDArray[Any]) -> Projection:
    """Return `like` with all directions its texts span: what a sweep over dimensions goes through.

    With any texts (n_anchors, dim_in) but those it was fitted to it is returned as it is.
    """
    from intramodal.projection.text_pca import TextPCA

    if "normalize_text" not in like.recipe or texts.shape != (
        like.recipe.get("n_anchors"),
        like.dim_in,
    ):
        return like
    how = bool(like.recipe["normalize_text"]), bool(like.recipe.get("center_text", True))
    rank = TextPCA(1, *how).fit(texts).rank_
    directions = TextPCA(rank, *how).fit(texts).components_
    kept = np.einsum("kd,dk->k", directions[: like.dim_out], like.matrix.astype(np.float64))
    if len(kept) < like.dim_out or not np.allclose(kept, 1, atol=_SAME):
        return like
    matrix = np.hstack([like.matrix, directions[like.dim_out :].T])
    return _control(like, like.method, matrix, offset=like.offset)


def apply_controls(like: Projection, X: Floats, *, has_texts: bool) -> dict[str, Floats]:
    """Return unit images `X` (n, dim_in) under every control of a projection, by its name.

    What it drops and its centred form are made only if its directions are known to be those of
    texts.
    """
    made = [random_projection(like), truncation(like), image_pca(like, X), centring(like, X)]
    if has_texts and like.dim_out < like.dim_in:
        made.append(bottom_components(like))
    if has_texts and like.offset is None:
        made.append(centred(like, X))
    return {control.method: control.apply_to_unit(X) for control in made}


def _mean(X: Floats) -> Floats:
    return np.asarray(X.mean(axis=0, dtype=np.float64), dtype=np.float32)


def _control(
    like: Projection, method: str, matrix: NDArray[Any], *, offset: Floats | None = None
) -> Projection:
    recipe = {"control_of": like.fingerprint}
    return replace(
        like, matrix=matrix.astype(np.float32), method=method, offset=offset, recipe=recipe
    )
