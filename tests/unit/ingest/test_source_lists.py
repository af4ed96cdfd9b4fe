from __future__ import annotations

import gzip
import io
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from intramodal.errors import ImageError, SourceError
from intramodal.ingest.payload import json_payload
from intramodal.ingest.sources.formats import open_source
from intramodal.ingest.sources.pictures import NamedSource
from tests.unit.ingest.sources_kit import (
    keys,
    needs_posix,
    payloads,
    png,
    put,
    reasons,
)

ROWS = [
    {"path": "a/1.png", "label": "cat", "note": "x, y"},
    {"path": "./2.png", "label": None, "note": 'say "é"'},
]


def write_list(path: Path) -> None:
    if path.suffix in (".jsonl", ".ndjson"):
        path.write_text("".join(json.dumps(row) + "\n\n" for row in ROWS), encoding="utf-8")
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        import csv

        dialect = "excel" if path.suffix == ".csv" else "excel-tab"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(ROWS[0]), dialect=dialect)
            writer.writeheader()
            writer.writerows(ROWS)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"])
def test_every_list_gives_the_same_pictures_and_payload(tmp_path: Path, suffix: str) -> None:
    put(tmp_path, "a/1.png", "2.png")
    write_list(tmp_path / f"list{suffix}")
    source = open_source(str(tmp_path / f"list{suffix}"))
    assert payloads(source) == {
        "a/1.png": {"label": "cat", "note": "x, y"},
        "2.png": {"label": None, "note": 'say "é"'},
    }
    assert not reasons(source)
    assert payloads(source) == payloads(source)


def test_a_list_is_found_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "data/1.png")
    put(tmp_path, "data/list.csv", data=b"path\n1.png\n")
    monkeypatch.chdir(tmp_path)
    source = open_source("data/list.csv")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert keys(source) == ["1.png"]
    assert [record.read() for record in source] == [(tmp_path / "data/1.png").read_bytes()]


def test_absolute_paths_become_relative_ones(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png")
    put(tmp_path, "list.csv", data=f"path\n{tmp_path}/a/1.png\n".encode())
    source = open_source(str(tmp_path / "list.csv"))
    assert keys(source) == ["a/1.png"]
    assert not reasons(source)


@needs_posix
def test_a_list_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    put(tmp_path, "out.png", "sub/in.png")
    (tmp_path / "sub/link.png").symlink_to("../out.png")
    rows = ["path", "../out.png", f"{tmp_path}/out.png", "x/../../out.png", "link.png", "in.png"]
    put(tmp_path, "sub/list.csv", data="\n".join(rows).encode())
    found = reasons(open_source(str(tmp_path / "sub/list.csv")))
    assert list(found) == ["../out.png", f"{tmp_path}/out.png", "x/../../out.png", "link.png"]
    assert all("leads out" in reason for reason in found.values())


def test_bad_rows_are_listed_by_their_place(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    put(tmp_path, "list.csv", data=b"path,label\n1.png,a\n,b\n1.png,a,b\n\ngone.png,c\n")
    source = open_source(str(tmp_path / "list.csv"))
    assert reasons(source) == {
        "./list.csv:3": "the row has no 'path'",
        "./list.csv:4": "the row has 3 cells, the header 2",
        "gone.png": "no such file, or a link that leads nowhere",
    }
    assert not source.is_complete
    put(tmp_path, "l.jsonl", data=b'{"path": "1.png"}\n{"path"\n[1]\n{"path": 7}\n')
    lines = reasons(open_source(str(tmp_path / "l.jsonl")))
    assert list(lines) == ["./l.jsonl:2", "./l.jsonl:3", "./l.jsonl:4"]
    assert "not JSON" in lines["./l.jsonl:2"]


def test_a_line_nested_without_end_is_one_bad_row(tmp_path: Path) -> None:
    put(tmp_path, "l.jsonl", data=b'{"path": "1.png"}\n' + b"[" * 1_000_000 + b"\n")
    assert "not JSON" in reasons(open_source(str(tmp_path / "l.jsonl")))["./l.jsonl:2"]


def test_a_data_frames_index_column_and_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    put(tmp_path, "list.csv", data="\ufeff,path,label\n0,1.png,cat\n".encode())
    assert payloads(open_source(str(tmp_path / "list.csv"))) == {"1.png": {"label": "cat"}}


@pytest.mark.parametrize("path", [r"a\1.png", r"C:\photos\1.png", "C:/photos/1.png"])
def test_a_path_of_windows_is_called_that(tmp_path: Path, path: str) -> None:
    """Issue 20, F19 and F20."""
    (tmp_path / "l.csv").write_text(f"path\n{path}\n")
    (record,) = open_source(str(tmp_path / "l.csv"))
    with pytest.raises(ImageError, match="written as on Windows"):
        record.read()


@pytest.mark.parametrize("path", ["https://example.org/a.jpg", "s3://shop/a.jpg", "file:///a.jpg"])
def test_an_address_is_listed_as_what_is_not_fetched(tmp_path: Path, path: str) -> None:
    (tmp_path / "l.csv").write_text(f"path\n{path}\n")
    for source in (
        open_source(str(tmp_path / "l.csv")),
        NamedSource("-", stream=io.BytesIO(path.encode() + b"\n")),
    ):
        assert reasons(source)[path].startswith("remote images are not fetched; download it first")


def test_a_key_that_occurs_twice_in_a_row_is_listed(tmp_path: Path) -> None:
    lines = ['{"path": "1.png", "label": 1}', '{"path": "2.png", "n": {"a": 1, "a": 2}}']
    (tmp_path / "l.jsonl").write_text("\n".join(lines))
    fine, twice = open_source(str(tmp_path / "l.jsonl"))
    assert fine.key == "1.png"
    with pytest.raises(ImageError, match="it has the key 'a' twice"):
        twice.read()


def hub_file(path: Path, images: list[Any], **columns: Any) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(images, kind), **columns}), path)
    return str(path)


def test_parquet_of_the_hub_is_read_with_its_image_bytes(tmp_path: Path) -> None:
    """Issue 20: names of images need not differ there."""
    images = [{"bytes": png(n), "path": "same.png" if n % 2 else None} for n in range(70)]
    images += [{"bytes": None, "path": "gone.png"}, None]
    labels = [n % 3 for n in range(len(images))]
    source = open_source(hub_file(tmp_path / "train.parquet", images, label=labels))
    records = list(source)
    assert [record.key for record in records] == [f"train.parquet/{n}" for n in range(72)]
    assert [record.read() for record in records[:70]] == [png(n) for n in range(70)]
    assert [record.held_bytes for record in records[:70]] == [len(png(n)) for n in range(70)]
    named = {"file_name": "same.png"}
    assert records[0].payload == {"label": 0}
    assert records[1].payload == {"label": 1, **named}
    for record in records[70:]:
        with pytest.raises(ImageError, match="column 'image' holds no bytes"):
            record.read()
    assert source.is_complete
    assert sum(1 for _ in source.names() or ()) == 72


def test_parquet_with_one_column_of_bytes_is_read(tmp_path: Path) -> None:
    """Issue 20: as exports of webdataset and of databases hold images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = pa.array([png(0), None, png(1)], pa.large_binary())
    pq.write_table(pa.table({"jpg": cells, "label": [3, 4, 5]}), tmp_path / "x.parquet")
    records = list(open_source(str(tmp_path / "x.parquet")))
    assert [record.payload for record in records] == [{"label": 3}, {"label": 4}, {"label": 5}]
    assert [records[0].read(), records[2].read()] == [png(0), png(1)]
    with pytest.raises(ImageError, match="column 'jpg' holds no bytes"):
        records[1].read()


def test_parquet_with_two_columns_of_images_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    other = pa.array([{"bytes": b"", "path": ""}])
    path = hub_file(tmp_path / "train.parquet", [{"bytes": png(), "path": "a"}], mask=other)
    with pytest.raises(SourceError, match="several columns of images: 'image', 'mask'"):
        open_source(path)


def test_parquet_cells_come_as_python_values(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = {
        "day": date(2024, 2, 29), "price": Decimal("1.50"), "score": float("nan"),
        "tags": ["a", "b"], "size": {"w": 3},
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist([{"path": "1.png", **cells}]), tmp_path / "l.parquet")
    assert json_payload(payloads(open_source(str(tmp_path / "l.parquet")))["1.png"]) == {
        "day": "2024-02-29", "price": 1.5, "score": None, "tags": ["a", "b"], "size": {"w": 3},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("l.csv", b"file,label\n1.png,a\n", r"no column 'path' \(it has 'file', 'label'\)"),
        ("l.csv", b"", "no column 'path'"),
        ("l.csv", b"path\n", "holds no images"),
        ("l.csv", b"path,a,a\n1.png,1,2\n", "two columns 'a'"),
        ("l.csv", b"path\n" + b"x" * 200_000, "line 2 of .* is not CSV"),
        ("l.csv", "path\né.png\n".encode("latin-1"), "is not UTF-8"),
        ("l.jsonl", b'{"file": "1.png"}\n', "no column 'path'"),
        ("l.jsonl", b"", "holds no images"),
        ("l.jsonl", b'[\n{"path": "1.png"}\n]', "is one JSON array; write one object a line"),
        ("l.jsonl", b"x" * (16 * 2**20 + 1), "longer than 16,777,216"),
        ("l.parquet", b"PAR1 no", "is not a Parquet file"),
        ("l.xlsx", b"x", "is no source of images: it is a spreadsheet; save the sheet as CSV"),
        ("l.tar.gz", b"x", "is no source of images: it is gzip; unpack it first"),
        ("l.csv", b"path;label\n1.png;a\n", "separated by semicolons.*save it with commas"),
        ("l.csv", b'"path";"label"\n1.png;a\n', "separated by semicolons"),
        ("l.csv", b"label;path;x,y\n", "separated by semicolons"),
        ("l.csv", b"path\tlabel\n1.png\ta\n", "separated by tabs"),
        ("l.tsv", b"path,label\n1.png,a\n", "separated by commas.*save it with tabs"),
        ("l.csv", b"sep=;\npath;label\n", "begins with Excel's line 'sep=;'; remove it"),
        ("l.csv", b"\xef\xbb\xbfSEP=,\npath,label\n", "begins with Excel's line 'SEP="),
        ("l.csv", gzip.compress(b"path\n1.png\n"), "is not CSV: it is gzip; unpack it first"),
        ("l.jsonl", gzip.compress(b'{"path": "1.png"}'), "is not JSONL: it is gzip"),
        ("l.parquet", gzip.compress(b"PAR1"), "is not PARQUET: it is gzip"),
        ("l.csv", b"PK\x03\x04rest", "is not CSV: it is a ZIP archive or an Office document"),
        ("l.csv", "path\n1.png\n".encode("utf-16"), "is not CSV: it is UTF-16; save it as UTF-8"),
        ("l.csv", b"PAR1\x15\x04", "is not CSV: it is Parquet; name it .parquet"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_list_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    put(tmp_path, name, data=data)
    with pytest.raises(SourceError, match=said):
        list(open_source(str(tmp_path / name)))


def test_a_parquet_column_of_bytes_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([{"path": "1.png", "image": b"\x89PNG"}])
    pq.write_table(table, tmp_path / "l.parquet")
    with pytest.raises(SourceError, match=r"'image' of .* holds bytes"):
        open_source(str(tmp_path / "l.parquet"))
