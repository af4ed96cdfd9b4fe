"""Vectors of a collection into a file, a page at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from intramodal.errors import InputError
from intramodal.files import replacing
from intramodal.ingest.vectors.matrices import MatrixFile, MatrixMaker, matrix_file
from intramodal.runs.run import Run
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import searched_vectors

_PAGE = 1000


@dataclass(frozen=True)
class _Paths:
    """The two files."""

    out: Path
    ids: Path


@dataclass(frozen=True)
class ExportSummary:
    """What was written: `rows` points of `dim` numbers; `missing` ones lack the vector."""

    collection: str
    vector: str
    rows: int
    missing: int
    dim: int
    out: str
    ids: str
    run_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    def record(self, run: Run) -> None:
        """Write the counts to a run."""
        run.log_metric("rows", self.rows, vector=self.vector, n=self.rows)
        run.log_metric("points without the vector", self.missing, vector=self.vector)


def export_vector(
    collection: ImageCollection, out: Path, *, vector: str | None = None, run: Run | None = None
) -> ExportSummary:
    """Write one vector of all points to `out`, rows in the order of ``OUT.ids.csv``.

    Rows are in id order: whole numbers by value, then UUIDs by text. Points that lack the vector
    are left out and counted. Both files are written under temporary names and renamed: `out` is
    only ever there whole, and never without its ids.

    Parameters
    ----------
    collection : ImageCollection
    out : Path
        ``.npy``, ``.safetensors`` (one tensor, named as the vector) or ``.parquet`` (columns
        ``id`` and ``vector``).
    vector : str, optional
        By default the projection of the encoder's own vector, that itself where there is none.
    run : Run, optional
        Records the counts, and who made the vectors.

    Raises
    ------
    InputError
        For another suffix, or a place that cannot be written to.
    NotFound
        If the vector is absent.
    """
    run = run or Run()
    if vector is None:
        vector = searched_vectors(collection)[-1]
    make = matrix_file(out)
    paths = _Paths(out, out.with_suffix(".ids.csv"))
    dim = collection.vector_spec(vector).size
    about = collection.manifest
    run.log_origins(about.vectors, collection=collection.name, dataset=about.dataset)
    rows = _written(collection, vector, dim, paths, make)
    missing = collection.count(Filter(lacks_vector=vector))
    places = str(out), str(paths.ids)
    found = ExportSummary(collection.name, vector, rows, missing, dim, *places, run.id)
    run.keep(found)
    return found


def _written(
    collection: ImageCollection, vector: str, dim: int, paths: _Paths, make: MatrixMaker
) -> int:
    """Write both files and return the number of rows."""
    n_expected = collection.count(Filter(has_vector=vector), exact=False)
    with (
        _both(paths) as (matrix_out, ids_out),
        closing(make(matrix_out, vector or "vector", n_expected, dim)) as matrix,
    ):
        return _write(collection, vector, matrix, ids_out)


def _write(collection: ImageCollection, vector: str, matrix: MatrixFile, ids_out: IO[str]) -> int:
    """Append all pages to both files and return the number of rows."""
    ids = csv.writer(ids_out, lineterminator="\n")
    ids.writerow(["id"])
    pages = collection.scan(vectors=[vector], where=Filter(has_vector=vector), batch_size=_PAGE)
    for page in pages:
        matrix.append(page.ids, page.vectors[vector])
        ids.writerows([point] for point in page.ids)
    return matrix.finish()


@contextmanager
def _both(paths: _Paths) -> Iterator[tuple[IO[bytes], IO[str]]]:
    """Yield two files that get their names when the block ends well, and vanish otherwise."""
    try:
        paths.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write {paths.out}: {error.strerror or error}; name a file that can be written"
        ) from error
    # A kill leaves the ids alone, never vectors whose ids are others'.
    with replacing(paths.out, paths.ids) as (part, ids_part), ExitStack() as files:
        matrix_out = files.enter_context(part.open("w+b"))
        ids_out = files.enter_context(ids_part.open("w", newline="", encoding="utf-8"))
        yield matrix_out, ids_out
