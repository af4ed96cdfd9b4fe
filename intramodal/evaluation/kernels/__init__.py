"""The counting kernels of ranking and classification: compiled (numba) and plain (NumPy).

Both give the same numbers.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from intramodal.errors import InputError

VARIABLE = "INTRAMODAL_KERNEL"
KERNELS = ("compiled", "plain")


def load_kernel(name: str | None = None) -> Any:
    """Return the module of a kernel: its `rank_block`.

    Parameters
    ----------
    name : {"compiled", "plain"}, optional
        By default what the environment variable ``INTRAMODAL_KERNEL`` says, else compiled.
    """
    chosen = name or os.environ.get(VARIABLE) or KERNELS[0]
    if chosen not in KERNELS:
        raise InputError(
            f"there is no ranking kernel {chosen!r}; set {VARIABLE} to {' or '.join(KERNELS)}"
        )
    module = {"compiled": "cpu"}.get(chosen, chosen)
    return importlib.import_module(f"intramodal.evaluation.kernels.{module}")


def load_mark_hits(name: str | None = None) -> Any:
    """Return the `mark_hits` of a kernel; see `load_kernel`."""
    return load_kernel(name).mark_hits


def load_leave_out(name: str | None = None) -> Any:
    """Return the `leave_out_block` of a kernel; see `load_kernel`."""
    return load_kernel(name).leave_out_block
