"""Matrices in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from intramodal.errors import InputError
from intramodal.types import Floats


def read_matrix(path: Path) -> Floats:
    """Read a 2-D ``.npy`` of numbers; never a pickle."""
    try:
        X = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as a .npy array ({error}); give a 2-D float .npy"
        ) from error
    if X.ndim != 2 or X.dtype.kind not in "fiu":
        raise InputError(
            f"{path} holds a {X.dtype} array of shape {X.shape}; give a 2-D float one"
        )
    return np.asarray(X, dtype=np.float32)
