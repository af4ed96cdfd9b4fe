from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from intramodal.errors import InputError, SourceError
from intramodal.ingest.vectors.matrices import Matrix, open_matrix, read_matrix

N, D = 23, 6


@pytest.fixture
def X(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(N, D)).astype(np.float32)


def write_parquet(path: Path, X: np.ndarray, *, fixed: bool = True, **columns: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.list_(pa.float32(), D) if fixed else pa.list_(pa.float64())
    table = pa.table({"vector": pa.array(list(X), type=kind), **columns})
    pq.write_table(table, path, row_group_size=5)


def joined(matrix: Matrix, size: int) -> np.ndarray:
    blocks = list(matrix.blocks(size))
    assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert all(block.dtype == np.float32 and block.flags.c_contiguous for block in blocks)
    return np.concatenate(blocks)


def write(path: Path, X: np.ndarray) -> None:
    """Write rows as the suffix says; a name that ends in ``lists`` has lists of any length."""
    if path.suffix == ".npy":
        np.save(path, X)
    elif path.suffix == ".safetensors":
        save_file({"image": X}, path)
    else:
        write_parquet(path, X, fixed=not path.stem.endswith("lists"))


@pytest.mark.parametrize("size", [1, 4, 7, N, 1000])
@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet", "lists.parquet"])
def test_every_kind_of_file_gives_the_same_rows_in_blocks_of_any_size(
    tmp_path: Path, X: np.ndarray, suffix: str, size: int
) -> None:
    path = tmp_path / f"x{suffix}"
    write(path, X)
    matrix = open_matrix(path)
    assert (matrix.n_rows, matrix.dim) == (N, D)
    np.testing.assert_array_equal(joined(matrix, size), X)
    np.testing.assert_array_equal(read_matrix(path), X)


@pytest.mark.parametrize("dtype", ["<f2", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_other_floats_and_orders_are_converted(
    tmp_path: Path, X: np.ndarray, dtype: str, order: Any
) -> None:
    given = np.asarray(X.astype(dtype), order=order)
    np.save(tmp_path / "x.npy", given)
    np.testing.assert_array_equal(
        joined(open_matrix(tmp_path / "x.npy"), 10), given.astype(np.float32)
    )


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
@pytest.mark.parametrize("length", [1e300, 1e-300, 1e-39])
def test_rows_that_float32_cannot_hold_stay_float64(
    tmp_path: Path, suffix: str, length: float
) -> None:
    X = np.array([[3.0, 4.0], [3 * length, 4 * length]])
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(path, X)
    elif suffix == ".safetensors":
        save_file({"x": X}, path)
    else:
        write_parquet(path, X, fixed=False)
    (block,) = open_matrix(path).blocks(10)
    np.testing.assert_array_equal(block, X)


def test_infinity_in_a_file_stays_infinite_without_a_warning(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[np.inf, 1.0]]))
    assert np.isinf(joined(open_matrix(tmp_path / "x.npy"), 10)[0, 0])


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
def test_a_whole_matrix_with_a_row_that_is_not_finite_is_refused(
    tmp_path: Path, X: np.ndarray, suffix: str
) -> None:
    """Issue 20, F11."""
    X[3, 2] = np.nan
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(path, X)
    elif suffix == ".safetensors":
        save_file({"x": X}, path)
    else:
        write_parquet(path, X)
    with pytest.raises(InputError, match=rf"row 3 of .*x{suffix} .*NaN or infinity"):
        read_matrix(path)


def test_a_npy_is_mapped_and_not_read(tmp_path: Path) -> None:
    # 8 GB that do not exist: a file with a hole.
    path = tmp_path / "large.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (4_000_000, 512)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4_000_000 * 512 * 4)
    block = next(iter(open_matrix(path).blocks(100)))
    assert block.shape == (100, 512)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return Path.touch, (tmp_path / "exploded",)

    (tmp_path / "a.npy").write_bytes(pickle.dumps(Bomb()))
    np.save(tmp_path / "b.npy", np.array([[Bomb()]], dtype=object), allow_pickle=True)
    for name in ("a.npy", "b.npy"):
        with pytest.raises(InputError, match=r"give a 2-D float \.npy"):
            open_matrix(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(3, np.float32), "shape (3,)"),
        (np.zeros((2, 2, 2), np.float32), "shape (2, 2, 2)"),
        (np.zeros((2, 2), np.int64), "int64"),
        (np.zeros((2, 2), np.complex64), "complex64"),
        (np.zeros((0, 4), np.float32), "give one with rows"),
        (np.array([["a"]]), "<U1"),
    ],
)
def test_arrays_that_are_no_matrix_of_floats_are_refused(
    tmp_path: Path, array: np.ndarray, said: str
) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InputError) as refused:
        open_matrix(tmp_path / "x.npy")
    assert said in str(refused.value)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
@pytest.mark.parametrize("n_bytes", [0, 7, 300])
def test_truncated_and_foreign_files_are_refused(
    tmp_path: Path, X: np.ndarray, suffix: str, n_bytes: int
) -> None:
    path = tmp_path / f"x{suffix}"
    write(path, X)
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(InputError, match=str(path)):
        open_matrix(path)


def test_files_that_are_absent_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("1 2 3")
    for name in ("x.txt", "no.npy"):
        with pytest.raises(SourceError, match=r"give a \.npy, \.safetensors or \.parquet file"):
            open_matrix(tmp_path / name)


def test_one_of_several_tensors_must_be_named(tmp_path: Path, X: np.ndarray) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"image": X, "text": X[:3], "ids": np.arange(3)}, path)
    with pytest.raises(InputError, match="several tensors: 'ids', 'image', 'text'"):
        open_matrix(path)
    with pytest.raises(InputError, match="no 'pixels' among tensors"):
        open_matrix(path, tensor="pixels")
    with pytest.raises(InputError, match="I64 of shape"):
        open_matrix(path, tensor="ids")
    np.testing.assert_array_equal(joined(open_matrix(path, tensor="text"), 2), X[:3])


def test_the_vector_column_is_the_usual_one_or_named(tmp_path: Path, X: np.ndarray) -> None:
    path = tmp_path / "x.parquet"
    write_parquet(path, X, clip=list(X[:, :2]), price=list(range(N)))
    assert open_matrix(path).dim == D
    np.testing.assert_array_equal(joined(open_matrix(path, column="clip"), 9), X[:, :2])
    with pytest.raises(InputError, match="lists of floats"):
        open_matrix(path, column="price")
    with pytest.raises(InputError, match="no 'dino' among columns: 'vector', 'clip', 'price'"):
        open_matrix(path, column="dino")


def test_missing_lists_and_lists_of_another_length_are_nan(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [None, [1.0, 2.0], [3.0], [4.0, None], [5.0, 6.0, 7.0], [8.0, 9.0], []]
    pq.write_table(pa.table({"embedding": rows}), tmp_path / "x.parquet")
    nan = float("nan")
    expected = [[nan] * 2, [1, 2], [nan] * 2, [4, nan], [nan] * 2, [8, 9], [nan] * 2]
    np.testing.assert_array_equal(joined(open_matrix(tmp_path / "x.parquet"), 3), expected)
