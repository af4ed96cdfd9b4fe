"""Ready projectors of a model's two towers from a file: IsoCLIP without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError

Projectors = tuple[NDArray[np.float64], NDArray[np.float64]]
TENSORS = ("image", "text")


def read_projectors(path: Path) -> Projectors:
    """Read the tensors ``image`` (d, d_image) and ``text`` (d, d_text) of a safetensors file.

    Raises
    ------
    InputError
        If the file is no safetensors, or lacks one of them.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            image, text = (file.get_tensor(name) for name in TENSORS)
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as projectors ({error}); give a safetensors file with the "
            f"float tensors 'image' and 'text', each (dimensions of the vectors, width of the "
            f"tower)"
        ) from error
    return _wide(image), _wide(text)


def _wide(matrix: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(matrix, dtype=np.float64)
