"""Vectors of a collection into a file, a page at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from intramodal.errors import InputError
from intramodal.ingest.vectors.matrices import MatrixFile, MatrixMaker, matrix_file
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.workflows.evidence import log_origins
from intramodal.workflows.workspace import open_workspace, recorded

_PAGE = 1000


@dataclass(frozen=True)
class _Paths:
    """The two files and the names under which they are written first."""

    out: Path
    ids: Path

    @property
    def unfinished(self) -> tuple[Path, Path]:
        return self.out.with_name(self.out.name + ".part"), self.ids.with_suffix(".csv.part")


def export_vectors(name: str, *, vector: str, out: Path, store: str, runs: str) -> dict[str, Any]:
    """Write one vector of all points to `out`, rows in the order of ``OUT.ids.csv``.

    Rows are in id order: whole numbers by value, then UUIDs by text. Points that lack the vector
    are left out and counted. Both files are written under temporary names and renamed: `out` is
    only ever there whole, and never without its ids.

    Parameters
    ----------
    name : str
        The collection.
    vector : str
    out : Path
        ``.npy``, ``.safetensors`` (one tensor, named as the vector) or ``.parquet`` (columns
        ``id`` and ``vector``).
    store, runs : str

    Returns
    -------
    dict
        "collection", "vector", "rows", "missing", "dim", "out", "ids", "run_id".

    Raises
    ------
    InputError
        For another suffix, or a place that cannot be written to.
    NotFound
        If the collection or the vector is absent.
    """
    make = matrix_file(out)
    paths = _Paths(out, out.with_suffix(".ids.csv"))
    with open_workspace(store, runs) as workspace:
        collection = ImageCollection.open(workspace.store, name)
        dim = collection.vector_spec(vector).size
        parameters = {"collection": name, "vector": vector, "out": str(out), "store": store}
        with recorded(workspace, "export", parameters) as run:
            log_origins(run, workspace.ledger, collection)
            rows = _written(collection, vector, dim, paths, make)
            missing = max(0, collection.count() - rows)
            run.log_metric("rows", rows, vector=vector, n=rows)
            run.log_metric("points without the vector", missing, vector=vector)
    return {
        "collection": name,
        "vector": vector,
        "rows": rows,
        "missing": missing,
        "dim": dim,
        "out": str(out),
        "ids": str(paths.ids),
        "run_id": run.id,
    }


def _written(
    collection: ImageCollection, vector: str, dim: int, paths: _Paths, make: MatrixMaker
) -> int:
    """Write both files and return the number of rows."""
    n_expected = collection.count(Filter(has_vector=vector))
    with (
        _both(paths) as (matrix_out, ids_out),
        closing(make(matrix_out, vector or "vector", n_expected, dim)) as matrix,
    ):
        return _write(collection, vector, matrix, ids_out)


def _write(collection: ImageCollection, vector: str, matrix: MatrixFile, ids_out: IO[str]) -> int:
    """Append all pages to both files and return the number of rows."""
    ids = csv.writer(ids_out, lineterminator="\n")
    ids.writerow(["id"])
    pages = collection.scroll(vectors=[vector], where=Filter(has_vector=vector), batch_size=_PAGE)
    for page in pages:
        matrix.append(page.ids, page.vectors[vector])
        ids.writerows([point] for point in page.ids)
    return matrix.finish()


@contextmanager
def _both(paths: _Paths) -> Iterator[tuple[IO[bytes], IO[str]]]:
    """Yield two files that get their names when the block ends well, and vanish otherwise."""
    part, ids_part = paths.unfinished
    try:
        with ExitStack() as files:
            paths.out.parent.mkdir(parents=True, exist_ok=True)
            matrix_out = files.enter_context(part.open("w+b"))
            ids_out = files.enter_context(ids_part.open("w", newline="", encoding="utf-8"))
            yield matrix_out, ids_out
        # A kill between these leaves the ids alone, never vectors whose ids are others'.
        paths.out.unlink(missing_ok=True)
        ids_part.replace(paths.ids)
        part.replace(paths.out)
    except OSError as error:
        raise InputError(
            f"cannot write {paths.out}: {error.strerror or error}; name a file that can be written"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
            ids_part.unlink(missing_ok=True)
