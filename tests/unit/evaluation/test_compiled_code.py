"""How much is compiled, counted and not timed: what a first command waits for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

CURVES = """
import numpy as np
from intramodal.evaluation.kernels.cpu import curves_block
scores = np.random.default_rng(0).random((2, 9), dtype=np.float32)
lists = (np.array([0, 2, 4]), np.array([1, 2, 0, 2])), (np.array([0, 1, 2]), np.array([0, 1]))
groups = np.arange(9) % 3, np.array([0, 1]), 3
curves_block(scores, *lists, groups, np.linspace(0, 1, 11))
"""
DEMO = """
from intramodal.cli import cli
cli(["demo", "--out", "out"], standalone_mode=False)
"""
RECORDED = """
import json, sys
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    exec(sys.argv[1])
found = [one.data["dispatcher"] for _, one in recorder.buffer if one.is_start]
names = [(kernel.py_func.__module__, kernel.py_func.__name__) for kernel in found]
is_parallel = any(kernel.targetoptions.get("parallel") for kernel in found)
print(json.dumps([names, is_parallel]))
"""


@pytest.mark.parametrize(
    "work", [CURVES, pytest.param(DEMO, marks=pytest.mark.slow)], ids=["curves", "demo"]
)
def test_nothing_is_compiled_that_is_not_needed(work: str, tmp_path: Path) -> None:
    """No helper for two types of number, no text of errors, no second code for threads."""
    done = subprocess.run(
        [sys.executable, "-c", RECORDED, work],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    names, is_parallel = json.loads(done.stdout.splitlines()[-1])
    counts = Counter(name for module, name in names if module.startswith("intramodal."))
    layouts = {"mark_hits": 2}  # some columns of its output, and all of them
    assert counts
    assert {name: n for name, n in counts.items() if n > layouts.get(name, 1)} == {}
    assert [module for module, _ in names if module == "numba.cpython.unicode"] == []
    assert not is_parallel
