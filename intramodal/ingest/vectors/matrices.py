"""Matrices in files, read and written a block at a time: ``.npy``, safetensors, Parquet."""

from __future__ import annotations

import json
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, SourceError, reason
from intramodal.files import format_of
from intramodal.ingest.input_file import InputFile, Readable
from intramodal.ingest.sources.base import read_json
from intramodal.ingest.sources.lists import import_pyarrow, opened_parquet, parquet_batches
from intramodal.signatures import format_by_name
from intramodal.types import Floats, PointId, require_finite

VECTOR_COLUMNS = ("vector", "embedding")
"""Columns of Parquet that hold the vectors unless another is named."""

_SAFETENSORS_FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
_LONGEST_HEADER = 100_000_000
"""Bytes of a safetensors header, by its specification."""
_BAD_HEADER = (
    *(OSError, ValueError, EOFError, TypeError, OverflowError),
    # The header of a .npy is parsed as a literal of Python.
    *(SyntaxError, TokenError, MemoryError, RecursionError),
)


class Matrix(ABC):
    """Rows of floats in a file; nothing is read before `blocks` is iterated over."""

    def __init__(self, file: InputFile, n_rows: int, dim: int) -> None:
        if n_rows == 0 or dim == 0:
            raise InputError(
                f"{file} holds a matrix of shape ({n_rows}, {dim}); give one with rows"
            )
        self.file = file
        self.n_rows = n_rows
        self.dim = dim

    @abstractmethod
    def blocks(self, size: int) -> Iterator[Floats]:
        """Yield all rows in order as float32 arrays of `size` rows, the last one shorter.

        Blocks with a row that float32 cannot hold are float64: it has a direction all the same.
        Rows that are missing or of another length are NaN.
        """

    def __repr__(self) -> str:
        """Return the file and the shape."""
        return f"{type(self).__name__}({str(self.file)!r}, {self.n_rows:,} x {self.dim})"


class _Rows:
    """Rows of floats that follow each other in an open file, read when they are asked for."""

    def __init__(
        self, file: InputFile, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.ndim = len(shape)
        self._file = file
        self._offset = offset
        n_bytes = math.prod(shape) * dtype.itemsize
        if file.n_bytes < offset + n_bytes:
            raise EOFError(f"cut off: {file.n_bytes:,} of {offset + n_bytes:,} bytes")

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(self.shape[0])
        a_row = math.prod(self.shape[1:]) * self.dtype.itemsize
        data = self._file.read_at(self._offset + start * a_row, (stop - start) * a_row)
        return np.frombuffer(data, self.dtype).reshape(-1, *self.shape[1:])


class NpyMatrix(Matrix):
    """A ``.npy``, never a pickle: memory-mapped by its path, read in blocks from an open file.

    In an open file the columns of an array in Fortran's order are all read for each row, so that
    is read into memory.
    """

    def __init__(self, file: InputFile) -> None:
        try:
            with warnings.catch_warnings(action="ignore"):  # of headers that fail right after
                self._X = _npy(file)
        except _BAD_HEADER as error:
            raise InputError(
                f"{file} cannot be read as a .npy array ({reason(error):.200}); "
                f"give a 2-D float .npy"
            ) from error
        if self._X.ndim != 2 or self._X.dtype.kind != "f":
            raise InputError(
                f"{file} holds a {self._X.dtype} array of shape {self._X.shape}; "
                f"give a 2-D float one"
            )
        super().__init__(file, *self._X.shape)

    def blocks(self, size: int) -> Iterator[Floats]:
        """Yield all rows in order."""
        for start in range(0, self.n_rows, size):
            yield _floats(self._X[start : start + size])


def _npy(file: InputFile) -> Any:
    """Return an array whose rows are read when they are asked for, as far as they lie together."""
    if not file.is_open:
        return np.lib.format.open_memmap(str(file), mode="r")
    with file.open() as opened:
        version = np.lib.format.read_magic(opened)
        if version not in _NPY_HEADERS:
            raise ValueError(f"version {version[0]}.{version[1]} is of arrays with field names")
        shape, is_fortran, dtype = _NPY_HEADERS[version](opened)
        if is_fortran and len(shape) > 1 and dtype.kind == "f":
            opened.seek(0)
            return np.lib.format.read_array(opened, allow_pickle=False)
        return _Rows(file, opened.tell(), shape, dtype)


_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class SafetensorsMatrix(Matrix):
    """One tensor of a safetensors file."""

    def __init__(self, file: InputFile, tensor: str | None = None) -> None:
        with _safetensors(file) as opened:
            self._tensor = _chosen(file, "tensor", sorted(opened.keys()), tensor)
            found = opened.get_slice(self._tensor)
            shape, dtype = tuple(found.get_shape()), found.get_dtype()
        if len(shape) != 2 or dtype not in _SAFETENSORS_FLOATS:
            raise InputError(
                f"tensor {self._tensor!r} of {file} is {dtype} of shape {shape}; give a 2-D one "
                f"of {', '.join(_SAFETENSORS_FLOATS)}"
            )
        super().__init__(file, *shape)

    def blocks(self, size: int) -> Iterator[Floats]:
        """Yield all rows in order."""
        with _safetensors(self.file) as opened:
            rows = opened.get_slice(self._tensor)
            for start in range(0, self.n_rows, size):
                yield _floats(rows[start : min(start + size, self.n_rows)])


class ParquetMatrix(Matrix):
    """A column of Parquet whose cells are lists of one length."""

    def __init__(self, file: InputFile, column: str | None = None) -> None:
        self._pa, _ = import_pyarrow(file)
        try:
            with opened_parquet(file) as parquet:
                schema = parquet.schema_arrow
                self.columns = tuple(schema.names)
                self.column = _vector_column(file, schema.names, column)
                self._check_type(file, schema.field(self.column).type)
                super().__init__(file, parquet.metadata.num_rows, self._length(parquet))
        except (self._pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise SourceError(
                f"{file} is not a Parquet file ({reason(error):.200}); write it again"
            ) from error

    def blocks(self, size: int) -> Iterator[Floats]:
        """Yield all rows in order."""
        waiting: list[Floats] = []
        for X in self._batches(size):  # batches end with row groups, shorter than asked for
            waiting.append(X)
            while sum(map(len, waiting)) >= size:
                joined = np.concatenate(waiting)
                yield joined[:size]
                waiting = [joined[size:]]
        if sum(map(len, waiting)):
            yield np.concatenate(waiting)

    def _batches(self, size: int) -> Iterator[Floats]:
        try:
            with opened_parquet(self.file) as parquet:
                for batch in parquet_batches(parquet, size, [self.column]):
                    yield self._rows(batch.column(0))
        except (self._pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise SourceError(
                f"{self.file} cannot be read ({reason(error):.200}); write it again"
            ) from error

    def _rows(self, cells: Any) -> Floats:
        lengths = np.asarray(cells.value_lengths().fill_null(0))
        fits = lengths == self.dim
        values = cells.filter(self._pa.array(fits)).flatten()
        rows = _floats(values.to_numpy(zero_copy_only=False).reshape(-1, self.dim))
        X = np.full((len(cells), self.dim), np.nan, dtype=rows.dtype)
        X[fits] = rows
        return X

    def _check_type(self, file: InputFile, found: Any) -> None:
        types = self._pa.types
        is_list = types.is_list(found) or types.is_large_list(found)
        if not (is_list or types.is_fixed_size_list(found)) or not types.is_floating(
            found.value_type
        ):
            raise InputError(
                f"column {self.column!r} of {file} holds {found}; give a column of lists of floats"
            )

    def _length(self, file: Any) -> int:
        """Return the length of the first list that is there."""
        found = file.schema_arrow.field(self.column).type
        if self._pa.types.is_fixed_size_list(found):
            return int(found.list_size)
        for batch in parquet_batches(file, 1024, [self.column]):
            present = batch.column(0).drop_null()
            if len(present):
                return int(present.value_lengths()[0].as_py())
        return 0


def open_matrix(
    source: Readable,
    *,
    tensor: str | None = None,
    column: str | None = None,
    format: str | None = None,
) -> Matrix:
    """Open a matrix by the suffix of its file, or its format."""
    file = InputFile(source, format)
    if not file.is_there:
        raise SourceError(f"there is no file {file}; give {_forms()}")
    if file.suffix == ".safetensors":
        return SafetensorsMatrix(file, tensor)
    if file.suffix == ".parquet":
        return ParquetMatrix(file, column)
    if file.suffix == ".npy":
        return NpyMatrix(file)
    known = format_by_name(file.name)
    raise SourceError(
        f"{file} is no file of vectors{f': {known}' if known else f'; give {_forms()}'}{file.hint}"
    )


def read_matrix(source: Readable, *, format: str | None = None) -> Floats:
    """Read a whole matrix into memory.

    Parameters
    ----------
    source : path or binary file
        ``.npy`` (2-D floats), ``.safetensors`` (one tensor) or ``.parquet`` (a column of lists).
        An open file has to seek, and stays open.
    format : str, optional
        ``npy``, ``safetensors`` or ``parquet``, where the name of the file does not tell.

    Raises
    ------
    InputError
        If the file is absent, holds no matrix of floats, or a row with NaN or infinity.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> np.save(file, np.eye(2))
    >>> read_matrix(file, format="npy").shape
    (2, 2)
    """
    matrix = open_matrix(source, format=format)
    X = np.concatenate(list(matrix.blocks(matrix.n_rows)))
    require_finite(X, str(matrix.file))
    return X


_SHORTEST = 1e-30
"""Largest component of a row below which float32 loses digits of the others."""


def _floats(X: NDArray[Any]) -> Floats:
    """Return rows (n, d) as float32; as float64 where some are too short or too long for it."""
    with np.errstate(over="ignore", invalid="ignore"):
        kept = np.ascontiguousarray(X, dtype=np.float32)
        if X.dtype != np.float64:
            return kept
        largest = np.abs(kept).max(axis=1, initial=0.0)
        is_odd = ((largest < _SHORTEST) & X.any(axis=1)) | (
            np.isinf(largest) & np.isfinite(X).all(axis=1)
        )
    return np.ascontiguousarray(X) if is_odd.any() else kept


@contextmanager
def _safetensors(file: InputFile) -> Iterator[Any]:
    """Open a safetensors file, with the names and slices of its tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        opened = _OpenTensors(file) if file.is_open else safe_open(file.path, framework="numpy")
    except (OSError, EOFError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{file} cannot be read as a safetensors file ({reason(error)}); write it again"
        ) from error
    with opened as tensors:
        yield tensors


class _OpenTensors:
    """The tensors of an open file: the library takes paths only, or all the bytes."""

    def __init__(self, file: InputFile) -> None:
        self._file = file
        length = int.from_bytes(file.read_at(0, 8), "little")
        if not 0 < length <= min(_LONGEST_HEADER, file.n_bytes):
            raise ValueError(f"its header has {length:,} bytes")
        self._start = 8 + length
        header = read_json(file.read_at(8, length).decode())
        if not isinstance(header, dict):
            raise ValueError("its header is not a JSON object")
        self._header = {name: entry for name, entry in header.items() if name != "__metadata__"}

    def __enter__(self) -> _OpenTensors:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def keys(self) -> list[str]:
        """Return the names."""
        return list(self._header)

    def get_slice(self, name: str) -> _OpenTensor:
        """Return a tensor that is read in rows."""
        return _OpenTensor(self._file, self._start, self._header[name])


class _OpenTensor:
    """One tensor of an open file, as `safetensors` gives it."""

    def __init__(self, file: InputFile, start: int, entry: Any) -> None:
        try:
            self._shape = [int(n) for n in entry["shape"]]
            self._dtype = str(entry["dtype"])
            first, last = entry["data_offsets"]
            self._place = int(first)
            self._n_bytes = int(last) - int(first)
        except (LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"{file} cannot be read as a safetensors file (a tensor is not described as its "
                f"format says: {error!r:.200}); write it again"
            ) from error
        self._file = file
        self._start = start

    def get_shape(self) -> list[int]:
        """Return the shape."""
        return self._shape

    def get_dtype(self) -> str:
        """Return the type as the format names it."""
        return self._dtype

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        dtype = np.dtype(_SAFETENSORS_FLOATS[self._dtype])
        try:
            if self._place < 0 or math.prod(self._shape) * dtype.itemsize != self._n_bytes:
                raise ValueError(f"a tensor of shape {self._shape} has {self._n_bytes:,} bytes")
            return _Rows(self._file, self._start + self._place, tuple(self._shape), dtype)[rows]
        except (ValueError, EOFError) as error:
            raise InputError(
                f"{self._file} cannot be read as a safetensors file ({reason(error)}); "
                f"write it again"
            ) from error


def _vector_column(path: InputFile, names: list[str], wanted: str | None) -> str:
    usual = [name for name in VECTOR_COLUMNS if name in names]
    if wanted is None and not usual:
        raise InputError(
            f"{path} has no column {' or '.join(map(repr, VECTOR_COLUMNS))} "
            f"(it has {_listed(names)}); name the one that holds the vectors"
        )
    return _chosen(path, "column", usual if wanted is None else names, wanted)


def _chosen(path: InputFile, what: str, names: list[str], wanted: str | None) -> str:
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted is None or wanted not in names:
        problem = "several" if wanted is None else f"no {wanted!r} among"
        raise InputError(f"{path} has {problem} {what}s: {_listed(names)}; name one of them")
    return wanted


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


def _forms() -> str:
    return "a .npy, .safetensors or .parquet file"


_HEADER_BYTES = 4096
"""Of a safetensors file, padded with spaces: the number of rows is written at the end."""


class MatrixFile(ABC):
    """A matrix of float32 in the making."""

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
    format_of(path, ("vectors",))
    kind = _KINDS[path.suffix.lower()]
    if kind is ParquetFile:
        import_pyarrow(path)
    return kind
