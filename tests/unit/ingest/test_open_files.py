"""Readers take open binary files, and read from them what they read by a path (issue 20)."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from safetensors.numpy import save_file

from intramodal import open_ready, open_source, read_matrix
from intramodal.errors import InputError, SourceError
from intramodal.ingest.input_file import InputFile
from intramodal.ingest.sources.lists import read_rows
from intramodal.ingest.vectors.matrices import NpyMatrix, open_matrix
from intramodal.types import Floats
from tests.unit.ingest.sources_kit import png, put, tar

X = np.random.default_rng(5).normal(size=(50, 6)).astype(np.float32)


def as_bytes(path: Path) -> BinaryIO:
    return io.BytesIO(path.read_bytes())


def as_opened(path: Path) -> BinaryIO:
    return path.open("rb")


def by_fsspec(path: Path) -> BinaryIO:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe(f"/{path.name}", path.read_bytes())
    opened: BinaryIO = memory.open(f"/{path.name}", "rb")
    return opened


WAYS = pytest.mark.parametrize("way", [as_bytes, as_opened, by_fsspec])
Way = Callable[[Path], BinaryIO]


def matrices(folder: Path) -> list[Path]:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    for name, data in (("c.npy", X), ("f.npy", np.asfortranarray(X)), ("h.npy", X.astype("f2"))):
        np.save(folder / name, data)
    np.save(folder / "d.npy", X.astype(">f8"))
    save_file({"x": X}, folder / "x.safetensors")
    save_file({"x": X.astype("f8")}, folder / "d.safetensors", metadata={"a": "b"})
    rows = {"id": list(range(len(X))), "vector": list(X), "kind": ["a"] * len(X)}
    pq.write_table(pa.table(rows), folder / "x.parquet", row_group_size=7)
    return sorted(folder.iterdir())


@WAYS
def test_matrices_of_open_files_are_those_of_paths(tmp_path: Path, way: Way) -> None:
    for path in matrices(tmp_path):
        given = path.suffix[1:]
        with way(path) as file:
            np.testing.assert_array_equal(read_matrix(file, format=given), read_matrix(path))
            both = (open_matrix(file, format=given), open_matrix(path))
            blocks: list[list[Floats]] = [list(matrix.blocks(8)) for matrix in both]
            assert [len(block) for block in blocks[0]] == [len(block) for block in blocks[1]]
            assert not file.closed


@WAYS
def test_ready_vectors_of_open_files_are_those_of_paths(tmp_path: Path, way: Way) -> None:
    matrices(tmp_path)
    lines = [f"{i},kind {i % 3}" for i in range(len(X))]
    (tmp_path / "meta.csv").write_text("\n".join(["id,kind", *lines, ""]))
    for name, table in (("c.npy", "meta.csv"), ("x.parquet", None), ("x.safetensors", "meta.csv")):
        path, rows = tmp_path / name, table and tmp_path / table
        plain = open_ready(path, dataset="d", table=rows or None)
        with way(path) as file, way(rows or path) as other:
            described = {"table": other, "table_format": "csv"} if rows else {}
            given: Any = {"format": path.suffix[1:], **described}
            ready = open_ready(file, dataset="d", **given)
            for ours, theirs in zip(ready.blocks(8), plain.blocks(8), strict=True):
                np.testing.assert_array_equal(ours.X, theirs.X)
                assert (ours.points, ours.payloads) == (theirs.points, theirs.payloads)


def sources(folder: Path) -> list[Path]:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    put(folder, "a/1.png", "a/22.png")
    (folder / "list.csv").write_text("\ufeffpath,kind\na/1.png,cat\na/22.png,dog\n")
    (folder / "list.tsv").write_text("path\tkind\na/1.png\tcat\na/22.png\tdog\n")
    (folder / "list.jsonl").write_text('{"path": "a/1.png", "kind": 1}\n{"path": "a/22.png"}\n')
    pq.write_table(pa.table({"path": ["a/1.png"], "kind": ["cat"]}), folder / "list.parquet")
    images = [{"bytes": png(shade), "path": f"{shade}.png"} for shade in (3, 4)]
    pq.write_table(pa.table({"image": images, "kind": ["x", "y"]}), folder / "hub.parquet")
    tar(folder / "shard.tar", {"1.png": png(1), "1.json": b'{"kind": "cat"}', "2.png": png(2)})
    return sorted(path for path in folder.iterdir() if path.is_file())


def content(source: Any) -> list[tuple[str, bytes, dict[str, Any]]]:
    return [(record.key, record.read(), record.payload) for record in source]


@pytest.mark.parametrize("way", [as_bytes, as_opened])
def test_sources_of_open_files_are_those_of_paths(
    tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # what paths of a list without a name are relative to
    for path in sources(tmp_path):
        with way(path) as file:
            found, expected = open_source(file, format=path.suffix[1:]), open_source(str(path))
            ours, theirs = content(found), content(expected)
            assert [row[1:] for row in ours] == [row[1:] for row in theirs], path
            assert content(found) == ours  # again and again
            assert found.is_complete
            assert not file.closed


def test_the_name_of_an_open_file_says_its_format_and_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources(tmp_path)
    np.save(tmp_path / "x.npy", X)
    with (tmp_path / "list.csv").open("rb") as file, (tmp_path / "x.npy").open("rb") as matrix:
        assert len(content(open_source(file))) == 2
        np.testing.assert_array_equal(read_matrix(matrix), X)
    named = as_bytes(tmp_path / "x.npy")
    named.name = "s3/x.npy"  # type: ignore[misc]
    assert repr(open_matrix(named)) == "NpyMatrix('s3/x.npy', 50 x 6)"


@pytest.mark.parametrize(
    "opened", [open_source, read_matrix, lambda file: open_ready(file, dataset="d")]
)
def test_an_open_file_of_no_known_format_asks_for_it(opened: Any) -> None:
    with pytest.raises((InputError, SourceError), match="no name that ends in its format"):
        opened(io.BytesIO(b"path\na.png\n"))


def test_text_files_streams_and_other_things_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path\n")
    with (
        (tmp_path / "list.csv").open() as text,
        pytest.raises(SourceError, match="open as text; open it as a binary file"),
    ):
        open_source(text)  # type: ignore[arg-type]

    class Stream(io.RawIOBase):
        def seekable(self) -> bool:
            return False

    with pytest.raises(SourceError, match="cannot seek, and readers go back to its beginning"):
        open_source(Stream(), format="csv")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="give a path or an open binary file, got int"):
        read_matrix(7)  # type: ignore[arg-type]


def test_a_matrix_by_its_path_is_mapped_and_one_of_an_open_file_is_read_in_blocks(
    tmp_path: Path,
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((50_000, 16), np.float32))

    class Counting(io.BytesIO):
        n_read = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.n_read += len(data)
            return data

    mapped = open_matrix(tmp_path / "x.npy")
    assert isinstance(mapped, NpyMatrix)
    assert isinstance(mapped._X, np.memmap)
    for name, format_ in (("x.npy", "npy"), ("x.safetensors", "safetensors")):
        if format_ == "safetensors":
            save_file({"x": np.zeros((50_000, 16), np.float32)}, tmp_path / name)
        file = Counting((tmp_path / name).read_bytes())
        next(iter(open_matrix(file, format=format_).blocks(100)))
        assert file.n_read < 300_000  # of 3.2 million: header, a block, and buffers of 64 KiB


@pytest.mark.parametrize("n_left", [0, 5, 40, 127, 300, 1300])
@pytest.mark.parametrize("name", ["c.npy", "f.npy", "x.safetensors", "x.parquet"])
def test_a_file_that_is_cut_off_is_one_sentence(tmp_path: Path, name: str, n_left: int) -> None:
    matrices(tmp_path)
    whole = (tmp_path / name).read_bytes()
    file = io.BytesIO(whole[: min(n_left, len(whole) - 1)])
    with pytest.raises((InputError, SourceError)) as caught:
        list(open_matrix(file, format=name.partition(".")[2]).blocks(8))
    assert "<file>" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b'{"x": 1}',
        b'{"x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [-16, 0]}}',
        b'{"x": {"dtype": "F32", "shape": [2, 9999999], "data_offsets": [0, 79999992]}}',
        b'{"x": {"dtype": "F32", "shape": [2, 2]}}',
        b"\xff\xfe",
    ],
)
def test_hostile_headers_of_safetensors_are_one_sentence(header: bytes) -> None:
    file = io.BytesIO(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(InputError, match="cannot be read as a safetensors file"):
        list(open_matrix(file, format="safetensors").blocks(8))


def test_a_source_of_one_open_file_is_read_by_many_threads_at_once(tmp_path: Path) -> None:
    members = {f"{i}.png": bytes([i]) * 5000 for i in range(40)}
    source = open_source(as_bytes(tar(tmp_path / "s.tar", members)), format="tar")
    records = {record.key: record for record in source}
    wrong: list[str] = []

    def read(key: str) -> None:
        for _ in range(20):
            if records[key].read() != members[key]:
                wrong.append(key)

    threads = [threading.Thread(target=read, args=(key,)) for key in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_two_readers_of_one_open_file_do_not_disturb_each_other() -> None:
    text = "id,kind\n" + "".join(f"{i},kind {i}\n" for i in range(20_000))
    file = InputFile(io.BytesIO(text.encode()), "csv")
    both = zip(read_rows(file), read_rows(file), strict=True)
    assert all(one == other for one, other in both)
