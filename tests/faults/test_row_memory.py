"""Reading many ready vectors takes no more memory than reading few. Issue 20, item 8."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

N_FEW, N_MANY, DIM = 20_000, 120_000, 8
MOST_MORE_MB = 8.0
"""A tenth of a kilobyte for each further row; keeping an id and its payload takes several."""

READ = """
import sys
from pathlib import Path
import intramodal.cli
import intramodal.ingest.vectors.ready as ready
from tests.faults.hostile import highest_mb

def read(**nothing):
    folder, kind, n = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    ready.open_ready(folder / "X10.npy", dataset="d", table=folder / f"rows10.{kind}")
    before = highest_mb()
    found = ready.open_ready(folder / f"X{n}.npy", dataset="d", table=folder / f"rows{n}.{kind}")
    n_rows = sum(len(block.points) for block in found.blocks(1000))
    print(n_rows, highest_mb() - before - X_MB * n_rows)

X_MB = 8 * 4 / 2**20  # the matrix is mapped, and counts as memory
intramodal.cli.cli = read
intramodal.cli.main()  # which sets up the process
"""


def write(folder: Path, kind: str, n: int) -> None:
    np.save(folder / f"X{n}.npy", np.ones((n, DIM), dtype=np.float32))
    rows: list[dict[str, Any]] = [
        {"id": f"sku-{i:09}", "path": f"a/{i}.jpg", "label": f"c{i % 7}", "price": i / 7}
        for i in range(n)
    ]
    path = folder / f"rows{n}.{kind}"
    if kind == "parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


@pytest.mark.skipif(sys.platform == "win32", reason="reads the peak of memory as POSIX tells it")
@pytest.mark.parametrize(
    "kind", ["parquet", *(pytest.param(k, marks=pytest.mark.slow) for k in ("csv", "jsonl"))]
)
def test_more_rows_take_no_more_memory(tmp_path: Path, kind: str) -> None:
    grown = []
    for n in (10, N_FEW, N_MANY):
        write(tmp_path, kind, n)
    for n in (N_FEW, N_MANY):
        command = [sys.executable, "-c", READ, str(tmp_path), kind, str(n)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        assert int(told[0]) == n
        grown.append(float(told[1]))
    assert grown[1] - grown[0] < MOST_MORE_MB, grown
