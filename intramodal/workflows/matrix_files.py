"""Files of vectors that are written a page at a time: ``.npy``, safetensors, Parquet."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from intramodal.errors import InputError
from intramodal.ingest.sources.rows import import_pyarrow
from intramodal.types import Floats, PointId

_HEADER_BYTES = 4096
"""Of a safetensors file, padded with spaces: the number of rows is written at the end."""


class MatrixFile(ABC):
    """A matrix of float32 in the making.

    Parameters
    ----------
    file : binary file
        Empty, seekable.
    name : str
        What the rows are.
    n_expected, dim : int
        The count may turn out to be another: points come and go while they are read.
    """

    def __init__(self, file: IO[bytes], name: str, n_expected: int, dim: int) -> None:
        self.n_rows = 0
        self._file = file
        self._name = name
        self._dim = dim
        self._n_written = n_expected
        self._begin(n_expected)

    def append(self, ids: Sequence[PointId], X: Floats) -> None:
        """Write the rows `X` (n, dim) of the given points."""
        self._file.write(np.ascontiguousarray(X, dtype="<f4").tobytes())
        self.n_rows += len(X)

    def finish(self) -> int:
        """Complete the file and return the number of rows."""
        if self.n_rows != self._n_written:
            self._file.seek(0)
            self._begin(self.n_rows)
        return self.n_rows

    def close(self) -> None:  # noqa: B027  most have nothing but the file, which is the caller's
        """Release what `finish` may not have released; calling it twice is fine."""

    @abstractmethod
    def _begin(self, n_rows: int) -> None:
        """Write what precedes the rows, of the same length whatever their number."""


class NpyFile(MatrixFile):
    """A ``.npy`` of float32."""

    def _begin(self, n_rows: int) -> None:
        # NumPy leaves room for any number of rows, so that the header can be written again.
        described = {"descr": "<f4", "fortran_order": False, "shape": (n_rows, self._dim)}
        np.lib.format.write_array_header_1_0(self._file, described)


class SafetensorsFile(MatrixFile):
    """One tensor of float32 under the vector's name."""

    def _begin(self, n_rows: int) -> None:
        entry = {
            "dtype": "F32",
            "shape": [n_rows, self._dim],
            "data_offsets": [0, n_rows * self._dim * 4],
        }
        header = json.dumps({self._name: entry}).encode().ljust(_HEADER_BYTES)
        self._file.write(len(header).to_bytes(8, "little") + header)


class ParquetFile(MatrixFile):
    """Columns ``id`` (text) and ``vector`` (lists of one length), one row group a page."""

    def _begin(self, n_rows: int) -> None:
        self._pa, pq = import_pyarrow(Path(f"{self._name}.parquet"))
        row = self._pa.list_(self._pa.float32(), self._dim)
        self._schema = self._pa.schema([("id", self._pa.string()), ("vector", row)])
        self._writer = pq.ParquetWriter(self._file, self._schema)

    def append(self, ids: Sequence[PointId], X: Floats) -> None:
        """Write the rows of the given points."""
        values = self._pa.array(np.ascontiguousarray(X, dtype=np.float32).reshape(-1))
        rows = self._pa.FixedSizeListArray.from_arrays(values, self._dim)
        columns = [self._pa.array([str(point) for point in ids]), rows]
        self._writer.write_table(self._pa.table(columns, schema=self._schema))
        self.n_rows += len(X)

    def finish(self) -> int:
        """Complete the file and return the number of rows."""
        self.close()
        return self.n_rows

    def close(self) -> None:
        """Write the footer, which makes the rows so far a file."""
        self._writer.close()


_KINDS: dict[str, Callable[[IO[bytes], str, int, int], MatrixFile]] = {
    ".npy": NpyFile,
    ".safetensors": SafetensorsFile,
    ".parquet": ParquetFile,
}


MatrixMaker = Callable[[IO[bytes], str, int, int], MatrixFile]
"""Takes the open file, the vector's name, the expected rows and their length."""


def matrix_file(path: Path) -> MatrixMaker:
    """Return the class that writes files of this suffix; `InputError` if there is none."""
    try:
        kind = _KINDS[path.suffix.lower()]
    except KeyError:
        raise InputError(
            f"vectors are not written to {path}: the suffix is none of {', '.join(_KINDS)}; "
            f"name such a file"
        ) from None
    if kind is ParquetFile:
        import_pyarrow(path)
    return kind
