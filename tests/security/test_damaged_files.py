"""Every file that a stranger may hand over, damaged at random: read, or refused in a sentence."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from intramodal.errors import IntramodalError
from intramodal.evaluation.preference import Votes
from intramodal.evaluation.rivals.class_texts import read_texts
from intramodal.ground_truth import read_ground_truth
from intramodal.ingest.sources.formats import open_source
from intramodal.ingest.sources.splits import read_split_file
from intramodal.ingest.vectors.matrices import open_matrix
from intramodal.projection.projection import Projection
from intramodal.store.open import open_store
from tests.faults.hostile import highest_mb

N_DAMAGED = int(os.environ.get("INTRAMODAL_DAMAGED_FILES", "60"))
LONGEST_SENTENCE = 2000
MOST_MB = 200.0  # what a header may cost; those below declare up to exabytes

X = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
ROWS = [{"path": f"{n}.jpg", "kind": f"k{n % 3}", "n": n} for n in range(20)]


def matrix(path: Path) -> None:
    for block in open_matrix(path).blocks(7):
        assert block.dtype == np.float32


def projection(path: Path) -> None:
    Projection.load(path).apply(np.ones((1, 6), np.float32))


def source(path: Path) -> None:
    for _ in open_source(str(path)):
        pass


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, X)
    return file.getvalue()


def written(save: Callable[[Path], Any], folder: Path) -> bytes:
    save(folder / "made")
    return (folder / "made").read_bytes()


def parquet(path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is absent: intramodal[parquet]")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"vector": X.tolist(), "path": [row["path"] for row in ROWS]}), path)


def fitted(path: Path) -> None:
    square = np.linalg.qr(X[:6].astype(np.float64))[0]
    Projection(square[:, :3], "pca", "clip", "3f9a").save(path)


def table(separator: str) -> bytes:
    lines = [separator.join(map(str, row.values())) for row in ROWS]
    return "\n".join([separator.join(ROWS[0]), *lines]).encode()


def jsonl() -> bytes:
    return "\n".join(json.dumps(row) for row in ROWS).encode()


KINDS: dict[str, tuple[str, Callable[[Path], bytes], Callable[[Path], None]]] = {
    "npy": (".npy", lambda folder: npy(), matrix),
    "safetensors": (
        ".safetensors",
        lambda folder: written(lambda p: save_file({"image": X}, p), folder),
        matrix,
    ),
    "parquet": (".parquet", lambda folder: written(parquet, folder), matrix),
    "projection": (".safetensors", lambda folder: written(fitted, folder), projection),
    "list in parquet": (".parquet", lambda folder: written(parquet, folder), source),
    "csv": (".csv", lambda folder: table(","), source),
    "tsv": (".tsv", lambda folder: table("\t"), source),
    "jsonl": (".jsonl", lambda folder: jsonl(), source),
}


def damaged(data: bytes, seed: int) -> bytes:
    """Change some bytes, mostly near the beginning; cut, double or swell now and then."""
    rng = np.random.default_rng(seed)
    spoilt = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        end = len(spoilt) if rng.random() < 1 / 2 else min(len(spoilt), 200)
        spoilt[int(rng.integers(end))] = int(rng.integers(256))
    kind = int(rng.integers(6))
    at = int(rng.integers(len(spoilt)))
    if kind == 0:
        return bytes(spoilt[:at])
    if kind == 1:
        return bytes(spoilt[:at] + spoilt)
    if kind == 2:
        return bytes(spoilt[:at] + rng.bytes(50) + spoilt[at:])
    return bytes(spoilt)


def read_or_refused(read: Callable[[Path], None], path: Path) -> bool:
    """Return whether a file was read; anything but one sentence of ours raises."""
    try:
        read(path)
    except IntramodalError as error:
        sentence = str(error)
    else:
        return True
    assert 0 < len(sentence) < LONGEST_SENTENCE
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    suffix, make, read = KINDS[kind]
    whole = make(tmp_path)
    path = tmp_path / f"whole{suffix}"
    path.write_bytes(whole)
    assert read_or_refused(read, path)
    for seed in range(N_DAMAGED):
        path = tmp_path / f"{seed}{suffix}"
        path.write_bytes(damaged(whole, seed))
        read_or_refused(read, path)


def npy_header(text: str, *, version: int = 1, length: int | None = None) -> bytes:
    data = text.encode()
    size = len(data) if length is None else length
    packed = struct.pack("<H" if version == 1 else "<I", size)
    return b"\x93NUMPY" + bytes([version, 0]) + packed + data


def shaped(shape: str, descr: str = "'<f4'") -> bytes:
    return (
        npy_header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n")
        + b"\0" * 64
    )


NPY_HEADERS: dict[str, bytes] = {
    "negative": shaped("(-1, 4)"),
    "both negative": shaped("(-4, -4)"),
    "more than memory": shaped(f"({2**40}, 512)"),
    "overflows": shaped(f"({2**62}, {2**62})"),
    "not numbers": shaped("('a', 'b')"),
    "floats": shaped("(2.0, 2.0)"),
    "many dimensions": shaped("(" + "1," * 100 + ")"),
    "objects": shaped("(2, 2)", "'|O'"),
    "structured": shaped("(2, 2)", "[('a', '<f4'), ('b', '|O')]"),
    "unknown type": shaped("(2, 2)", "'<q9z'"),
    "code": npy_header("__import__('os').system('false')\n"),
    "a call": npy_header("{'descr': open('x', 'w'), 'fortran_order': 0, 'shape': (1, 1)}\n"),
    "no dictionary": npy_header("[1, 2]\n"),
    "missing keys": npy_header("{'descr': '<f4'}\n"),
    "deep brackets": npy_header("(" * 4000 + ")" * 4000 + "\n"),
    "deep signs": npy_header("{'descr': " + "-" * 8000 + "1}\n"),
    "long": npy_header("{'descr': '<f4', 'x': '" + "a" * 60_000 + "'}\n"),
    "declares gigabytes": npy_header("{}", version=2, length=2**32 - 1),
    "no text": npy_header("\udcff".encode("utf-8", "surrogatepass").decode("latin1")),
    "newer version": b"\x93NUMPY\x09\x00" + b"\0" * 100,
}


@pytest.mark.parametrize("name", NPY_HEADERS)
def test_a_hostile_npy_header_is_refused_and_costs_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(NPY_HEADERS[name])
    before = highest_mb()
    assert not read_or_refused(matrix, path)
    assert highest_mb() - before < MOST_MB


def safetensors_header(header: Any, *, length: int | None = None) -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data) if length is None else length) + data + b"\0" * 64


def tensor(shape: Iterable[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"matrix": {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}}


SAFETENSORS_HEADERS: dict[str, bytes] = {
    "declares exabytes": safetensors_header({}, length=2**63),
    "beyond the file": safetensors_header(tensor((4, 4), 0, 10**12)),
    "backwards": safetensors_header(tensor((4, 4), 64, 0)),
    "negative": safetensors_header(tensor((-4, -4), 0, 64)),
    "overflows": safetensors_header(tensor((2**62, 2**62), 0, 64)),
    "unknown type": safetensors_header(tensor((4, 4), 0, 64, "PICKLE")),
    "deep": safetensors_header(b"[" * 100_000),
    "no json": safetensors_header(b"\xff" * 40),
    "metadata of another kind": safetensors_header(
        {"__metadata__": {"intramodal": "[" * 50_000}, **tensor((4, 4), 0, 64)}
    ),
    "metadata that is no text": safetensors_header({"__metadata__": {"a": 1}}),
}


@pytest.mark.parametrize("name", SAFETENSORS_HEADERS)
@pytest.mark.parametrize("read", [projection, matrix])
def test_a_hostile_safetensors_header_is_refused_and_costs_nothing(
    tmp_path: Path, name: str, read: Callable[[Path], None]
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(SAFETENSORS_HEADERS[name])
    before = highest_mb()
    is_read = read_or_refused(read, path)
    # Metadata that we do not read does a matrix no harm.
    assert not is_read or (read is matrix and name == "metadata of another kind")
    assert highest_mb() - before < MOST_MB


DEEP = "[" * 100_000 + "]" * 100_000


def _store_of(path: Path) -> None:
    store = path.parent / "store"
    store.mkdir()
    path.rename(store / "catalogue.json")
    with open_store(str(store)) as opened:
        opened.collections()


@pytest.mark.parametrize("read", [read_texts, read_ground_truth, Votes.load, _store_of])
def test_json_that_nests_too_deeply_is_refused(
    tmp_path: Path, read: Callable[[Path], None]
) -> None:
    path = tmp_path / "deep.json"
    path.write_text('{"imlist": ' + DEEP + "}")
    assert not read_or_refused(read, path)


@pytest.mark.parametrize("read", [read_texts, read_split_file])
def test_a_packed_file_of_json_is_called_that(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    (tmp_path / "texts.json").write_bytes(gzip.compress(b"{}"))
    with pytest.raises(IntramodalError, match="it is gzip; unpack it first"):
        read(tmp_path / "texts.json")
