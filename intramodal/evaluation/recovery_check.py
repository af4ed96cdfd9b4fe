"""Whether a collection has enough pictures to do without anchors (appendix A)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.recovery import n_norms_needed, recover_without_anchors
from intramodal.evaluation.results import json_values
from intramodal.types import unit_rows

MOST_UNKNOWNS = 3000
"""Largest system that is solved, about 75 dimensions: time grows with its square, n p^2."""
MOST_IMAGES = 2000
"""Largest n for which the rank of too few equations is computed: time grows with n^3."""


@dataclass(frozen=True)
class NormsCheck:
    """Unit-norm equations of a collection against the unknowns of its space.

    Parameters
    ----------
    n_images : int
        Pictures, and so equations.
    n_needed : int
        d (d + 1) / 2 unknowns.
    n_free : int or None
        Directions left free; at least the missing equations. None if the rank is not known.
    is_determined : bool or None
        None if it was not computed.
    rank : int or None
        Of the equations, where it was computed.
    rms : float or None
        Root mean square of recovered minus true similarity over all pairs of the pictures used,
        where they are determined.
    n_used : int
        Pictures whose equations were solved; 0 where the system is too large.
    """

    n_images: int
    n_needed: int
    n_free: int | None
    is_determined: bool | None
    rank: int | None
    rms: float | None
    n_used: int

    @property
    def sentence(self) -> str:
        """What the unit lengths alone fix."""
        counts = f"{self.n_images:,} images for {self.n_needed:,} unknowns"
        head = f"Without anchors (appendix A): {counts}"
        if self.is_determined is None:
            return f"{head}: enough in number; the system is too large to be solved here."
        if self.is_determined:
            return f"{head}: determined, recovered to {self.rms:.1g} (RMS)."
        least = "at least " if self.rank is None else ""
        free = "1 direction is" if self.n_free == 1 else f"{self.n_free:,} directions are"
        return f"{head}: not determined, {least}{free} free."

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        values: dict[str, Any] = json_values({**asdict(self), "sentence": self.sentence})
        return values


def check_norms(X: NDArray[Any], T: NDArray[Any], *, seed: int = 0) -> NormsCheck:
    """Check the number of images against d (d + 1) / 2, and recover them where that is feasible.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Images; rows are normalised here. Of more than twice the images needed, a random sample of
        so many is taken.
    T : ndarray of shape (n_texts, d)
        Texts of the same model; rows are normalised here.
    seed : int
        Of the sample.

    Raises
    ------
    InputError
        For texts of another length than the images.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> check_norms(rng.normal(size=(9, 4)), rng.normal(size=(8, 4))).n_free
    1
    """
    X, T = (unit_rows(M).astype(np.float64) for M in (X, T))
    if X.shape[1] != T.shape[1]:
        raise InputError(
            f"images have {X.shape[1]} dimensions and texts {T.shape[1]}; give the texts of the "
            f"images' model, projected as the images are"
        )
    n, d = X.shape
    needed = n_norms_needed(d)
    if n >= needed and needed > MOST_UNKNOWNS:
        return NormsCheck(n, needed, None, None, None, None, 0)
    if n < needed and n > MOST_IMAGES:
        return NormsCheck(n, needed, needed - n, False, None, None, 0)
    if n > 2 * needed:
        X = X[np.sort(np.random.default_rng(seed).choice(n, 2 * needed, replace=False))]
    return _solved(n, X, T)


def _solved(n_images: int, X: NDArray[np.float64], T: NDArray[np.float64]) -> NormsCheck:
    # Rounding to float32 has left lengths off by 1e-7: the equations speak of length one.
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    found = recover_without_anchors(T @ X.T, dim=X.shape[1])
    rms = None
    if found.is_determined:
        rms = float(np.sqrt(np.mean((found.similarities() - X @ X.T) ** 2)))
    return NormsCheck(
        n_images=n_images,
        n_needed=n_norms_needed(X.shape[1]),
        n_free=found.n_free,
        is_determined=found.is_determined,
        rank=found.rank,
        rms=rms,
        n_used=len(X),
    )
