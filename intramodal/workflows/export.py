"""Vectors of a collection into a file."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from intramodal.store.collection import ImageCollection
from intramodal.workflows.workspace import reach_store


def export_vectors(name: str, *, vector: str, out: Path, store: str) -> dict[str, Any]:
    """Write one vector of all points to `out` (.npy), rows in the order of ``OUT.ids.csv``.

    Both files are written under temporary names and renamed, so that a kill leaves neither half.
    """
    with reach_store(store) as opened:
        table = ImageCollection.open(opened, name).table([vector])
    ids_path = out.with_suffix(".ids.csv")
    partial, partial_ids = out.with_suffix(".npy.part"), ids_path.with_suffix(".csv.part")
    with partial.open("wb") as file:
        np.save(file, table.vectors[vector], allow_pickle=False)
    with partial_ids.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id"])
        writer.writerows([i] for i in table.ids)
    partial.replace(out)
    partial_ids.replace(ids_path)
    rows, dim = table.vectors[vector].shape
    return {"collection": name, "vector": vector, "rows": rows, "dim": dim, "ids": str(ids_path)}
