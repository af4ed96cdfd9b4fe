from __future__ import annotations

import io
import json
import os
import socket
import sys
import tarfile
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from intramodal.errors import ImageError, SourceError
from intramodal.ingest.sources import Source, open_source
from intramodal.ingest.sources.files import MAX_FILE_BYTES
from intramodal.ingest.sources.labels import label_rule
from intramodal.ingest.sources.named import NamedSource
from intramodal.ingest.sources.shards import expanded

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")


def png(shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), shade).save(file, "PNG")
    return file.getvalue()


def put(folder: Path, *names: str, data: bytes | None = None) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(len(name)) if data is None else data)
    return folder


def keys(source: Source) -> list[str]:
    return [record.key for record in source]


def payloads(source: Source) -> dict[str, dict[str, Any]]:
    return {record.key: record.payload for record in source}


def reasons(source: Source) -> dict[str, str]:
    """Return why each unreadable record is so; readable ones are left out."""
    found = {}
    for record in source:
        try:
            record.read()
        except (ImageError, OSError) as error:
            found[record.key] = str(error)
    return found


# Folders


def test_a_folder_gives_relative_paths_in_order_and_again(tmp_path: Path) -> None:
    put(tmp_path, "b.png", "a/2.png", "a/1.png", "a/c/3.png", "c.png")
    source = open_source(str(tmp_path))
    assert keys(source) == ["a/1.png", "a/2.png", "a/c/3.png", "b.png", "c.png"]
    assert keys(source) == keys(source)
    assert next(record.read() for record in source) == (tmp_path / "a/1.png").read_bytes()


def test_hidden_files_and_other_files_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, "1.png", ".2.png", ".git/3.png", "._1.png")
    put(tmp_path, "1.txt", "a.json", "b.CSV", "Thumbs.db", "clip.mp4", data=b"text")
    assert keys(open_source(str(tmp_path))) == ["1.png"]


def test_whatever_may_be_a_picture_is_kept(tmp_path: Path) -> None:
    put(tmp_path, "scan", "photo.jgp", "a.heic", "b.b")
    assert keys(open_source(str(tmp_path))) == ["a.heic", "b.b", "photo.jgp", "scan"]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_a_picture_with_the_name_of_a_text_is_found_by_its_first_bytes(
    tmp_path: Path, format: str
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "odd.txt", format)
    put(tmp_path, "real.txt", data=b"some words")
    assert keys(open_source(str(tmp_path))) == ["odd.txt"]


def test_a_folder_named_like_a_picture_is_listed_and_its_pictures_are_kept(tmp_path: Path) -> None:
    put(tmp_path, "x.jpg/1.png")
    source = open_source(str(tmp_path))
    assert keys(source) == ["x.jpg", "x.jpg/1.png"]
    assert reasons(source) == {"x.jpg": "a folder with the name of a picture"}


@needs_posix
def test_links_are_read_within_the_source_only(tmp_path: Path) -> None:
    inside, outside = put(tmp_path / "in", "1.png", "d/2.png"), put(tmp_path / "out", "9.png")
    (inside / "same.png").symlink_to("1.png")
    (inside / "escape.png").symlink_to(outside / "9.png")
    (inside / "up.png").symlink_to("../out/9.png")
    (inside / "nowhere.png").symlink_to("gone.png")
    (inside / "loop.png").symlink_to("loop.png")
    (inside / "folder").symlink_to(outside)
    (inside / "again").symlink_to("d")  # its pictures are read where they are
    source = open_source(str(inside))
    leads_out = "a link that leads out of the source"
    assert reasons(source) == {
        "escape.png": leads_out,
        "folder": leads_out,
        "loop.png": "a link that leads back to itself",
        "nowhere.png": "no such file, or a link that leads nowhere",
        "up.png": leads_out,
    }
    assert set(keys(source)) - set(reasons(source)) == {"1.png", "d/2.png", "same.png"}


@needs_posix
def test_a_file_that_becomes_a_link_out_of_the_source_is_not_read(tmp_path: Path) -> None:
    inside, outside = put(tmp_path / "in", "1.png"), put(tmp_path / "out", "9.png")
    (record,) = open_source(str(inside))
    (inside / "1.png").unlink()
    (inside / "1.png").symlink_to(outside / "9.png")
    with pytest.raises(ImageError, match="leads out"):
        record.read()


@needs_posix
def test_a_source_that_is_a_link_itself_is_read(tmp_path: Path) -> None:
    put(tmp_path / "real", "1.png")
    (tmp_path / "link").symlink_to("real")
    source = open_source(str(tmp_path / "link"))
    assert keys(source) == ["1.png"]
    assert not reasons(source)


@needs_posix
def test_pipes_and_sockets_are_listed_and_never_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo("a.jpg")
    (tmp_path / "c.jpg").symlink_to("a.jpg")
    (tmp_path / "d.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("b.jpg")
        found = reasons(open_source(str(tmp_path)))
    assert found == {
        "a.jpg": "a pipe, not a file",
        "b.jpg": "a socket, not a file",
        "c.jpg": "a pipe, not a file",
        "d.jpg": "a link that leads out of the source",
    }


@needs_posix
def test_a_name_that_is_no_text_is_listed(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).write_bytes(png())
    assert reasons(open_source(str(tmp_path))) == {"./caf\\xe9.png": "the name is not UTF-8"}


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse: takes no space
    assert "268,435,457 bytes" in reasons(open_source(str(tmp_path)))["huge.png"]


def test_a_tree_deeper_than_the_stack_is_walked(tmp_path: Path) -> None:
    deep = "a/" * 400 + "1.png"
    put(tmp_path, deep)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        source = open_source(str(tmp_path))
        assert keys(source) == [deep]
        assert not reasons(source)
    finally:
        sys.setrecursionlimit(limit)


@needs_posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_may_not_be_listed_is_a_failure(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "closed/2.png")
    (tmp_path / "closed").chmod(0)
    source = open_source(str(tmp_path))
    assert "Permission denied" in reasons(source)["closed"]
    assert not source.is_complete
    (tmp_path / "closed").chmod(0o700)
    assert keys(source) == ["1.png", "closed/2.png"]
    assert source.is_complete


def test_a_folder_that_vanishes_while_it_is_walked_is_a_failure(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "later/2.png")
    source = open_source(str(tmp_path))
    records = iter(source)
    assert next(records).key == "1.png"
    (tmp_path / "later/2.png").unlink()
    (tmp_path / "later").rmdir()
    assert [record.key for record in records] == ["later"]
    assert not source.is_complete


# Labels


@pytest.mark.parametrize(
    ("label_from", "key", "expected"),
    [
        ("parent", "a/cats/1.png", {"label": "cats"}),
        ("parent", "1.png", {}),
        (r"^(?P<label>[^/]+)/", "a/cats/1.png", {"label": "a"}),
        (r"(?P<label>\w+)/(?P<shop>\d+)", "cats/7.png", {"label": "cats", "shop": "7"}),
        (r"(?P<label>cat)|(?P<other>dog)", "dog.png", {"other": "dog"}),
        (r"(?P<label>bird)", "dog.png", {}),
        (None, "cats/1.png", {}),
    ],
)
def test_labels_come_from_the_path(
    label_from: str | None, key: str, expected: dict[str, str]
) -> None:
    assert label_rule(label_from)(key) == expected


@pytest.mark.parametrize(
    ("label_from", "said"),
    [("(", "is no regular expression"), ("(cats)", "has no named groups"), ("", "no named")],
)
def test_a_label_rule_that_gives_no_label_is_refused(
    tmp_path: Path, label_from: str, said: str
) -> None:
    put(tmp_path, "1.png")
    with pytest.raises(SourceError, match=said):
        open_source(str(tmp_path), label_from=label_from)


def test_a_label_from_the_path_wins_over_a_column(tmp_path: Path) -> None:
    put(tmp_path, "cats/1.png")
    put(tmp_path, "l.csv", data=b"path,label,n\ncats/1.png,dog,7\n")
    source = open_source(str(tmp_path / "l.csv"), label_from="parent")
    assert payloads(source) == {"cats/1.png": {"label": "cats", "n": "7"}}


# Lists

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
    put(tmp_path, "list.csv", data="\ufeffpath,,label\n1.png,0,cat\n".encode())
    assert payloads(open_source(str(tmp_path / "list.csv"))) == {"1.png": {"label": "cat"}}


def test_parquet_cells_become_json_values(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = {
        "day": date(2024, 2, 29), "price": Decimal("1.50"), "score": float("nan"),
        "tags": ["a", "b"], "size": {"w": 3},
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist([{"path": "1.png", **cells}]), tmp_path / "l.parquet")
    assert payloads(open_source(str(tmp_path / "l.parquet")))["1.png"] == {
        "day": "2024-02-29", "price": 1.5, "score": None, "tags": ["a", "b"], "size": {"w": 3},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("l.csv", b"file,label\n1.png,a\n", r"no column 'path' \(it has 'file', 'label'\)"),
        ("l.csv", b"", "no column 'path'"),
        ("l.csv", b"path\n", "holds no pictures"),
        ("l.csv", b"path,a,a\n1.png,1,2\n", "two columns 'a'"),
        ("l.csv", b"path\n" + b"x" * 200_000, "line 2 of .* is not CSV"),
        ("l.csv", "path\né.png\n".encode("latin-1"), "is not UTF-8"),
        ("l.jsonl", b'{"file": "1.png"}\n', "no column 'path'"),
        ("l.jsonl", b"", "holds no pictures"),
        ("l.jsonl", b"x" * (16 * 2**20 + 1), "longer than 16,777,216"),
        ("l.parquet", b"PAR1 no", "is not a Parquet file"),
        ("l.xlsx", b"x", "is no source of pictures"),
        ("l.tar.gz", b"x", "is no source of pictures"),
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


# Stdin


def named(text: bytes) -> NamedSource:
    return NamedSource("-", stream=io.BytesIO(text))


@needs_posix
def test_paths_on_stdin_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "here/a/1.png", "there/2.png", "there/3.png")
    monkeypatch.chdir(tmp_path / "here")
    top = str(tmp_path).lstrip("/")
    paths = f"a/1.png\n./a/../a/1.png\r\n\n{tmp_path}/here/a/1.png\n../there/2.png\n"
    source = named(f"{paths}{tmp_path}/there/3.png".encode())
    records = list(source)
    assert [record.key for record in records] == ["a/1.png"] * 3 + [
        f"{top}/there/2.png",
        f"{top}/there/3.png",
    ]
    assert all(record.read().startswith(b"\x89PNG") for record in records)


@needs_posix
def test_a_named_link_stays_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "in/1.png", "out.png")
    (tmp_path / "in/same.png").symlink_to("1.png")
    (tmp_path / "in/escape.png").symlink_to("../out.png")
    (tmp_path / "linked").symlink_to("in")
    monkeypatch.chdir(tmp_path)
    source = named(b"in/same.png\nin/escape.png\nlinked/1.png\nin\ngone.png\n")
    assert reasons(source) == {
        "in/escape.png": "leads out of the source",
        "in": "a folder, not a file",
        "gone.png": "no such file, or a link that leads nowhere",
    }


def test_stdin_is_read_once_and_not_before_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.png\n")))
    source = open_source("-")
    assert keys(source) == ["a.png"]
    with pytest.raises(SourceError, match="only once"):
        keys(source)
    with pytest.raises(SourceError, match="no path on stdin"):
        keys(named(b"\n\n"))


# Shards


def tar(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                file.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_a_sample_gives_its_picture_and_its_payload(tmp_path: Path) -> None:
    members = {
        "./a/0.jpg": png(1), "./a/0.json": b'{"shop": 7, "label": "x"}', "./a/0.cls": b"3\n",
        "./a/0.txt": "ein Käfer\n".encode(), "1.png": png(2), "1.seg.png": png(3),
        "1.npy": b"array", "1.json": b'{"shop": 8}', "2.webp": png(4),
    }  # fmt: skip
    source = open_source(str(tar(tmp_path / "s.tar", members)))
    assert payloads(source) == {
        "a/0.jpg": {"shop": 7, "label": "3", "text": "ein Käfer"},
        "1.png": {"shop": 8},
        "1.seg.png": {"shop": 8},
        "2.webp": {},
    }
    read = {record.key: record.read() for record in source}
    assert read == {"a/0.jpg": png(1), "1.png": png(2), "1.seg.png": png(3), "2.webp": png(4)}
    assert source.is_complete


def test_braces_name_many_shards_in_order(tmp_path: Path) -> None:
    for n in range(8, 12):
        tar(tmp_path / f"s-{n:03}.tar", {f"{n}.png": png(n)})
    assert keys(open_source(str(tmp_path / "s-{008..011}.tar"))) == [
        "8.png", "9.png", "10.png", "11.png",
    ]  # fmt: skip
    with pytest.raises(SourceError, match=r"there is no shard .*s-012\.tar"):
        open_source(str(tmp_path / "s-{008..012}.tar"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("{0..2}.tar", ["0.tar", "1.tar", "2.tar"]),
        ("{9..11}", ["9", "10", "11"]),
        ("{09..11}", ["09", "10", "11"]),
        ("{a,b}{1..2}", ["a1", "a2", "b1", "b2"]),
        ("{2..1}", []),
    ],
)
def test_braces_mean_what_they_mean_in_a_shell(pattern: str, expected: list[str]) -> None:
    assert expanded(pattern) == expected


@pytest.mark.parametrize("pattern", ["{0..999999999}", "{0..9999}{0..9999}"])
def test_a_pattern_for_millions_of_shards_is_refused(pattern: str) -> None:
    with pytest.raises(SourceError, match="shards"):
        expanded(pattern)


def test_members_that_would_leave_the_source_are_listed(tmp_path: Path) -> None:
    members = {
        "0.png": png(), "../up.png": png(), "/etc/abs.png": png(), "a/../../up.png": png(),
        "l.png": special("l.png", tarfile.SYMTYPE, "/etc/passwd"),
        "h.png": special("h.png", tarfile.LNKTYPE, "0.png"),
        "p.png": special("p.png", tarfile.FIFOTYPE),
        "d.png": special("d.png", tarfile.DIRTYPE), "d": special("d", tarfile.DIRTYPE),
        ".hidden/1.png": png(), "._0.png": png(),
    }  # fmt: skip
    source = open_source(str(tar(tmp_path / "s.tar", members)))
    found = reasons(source)
    assert set(found) == {
        "../up.png", "/etc/abs.png", "a/../../up.png", "l.png", "h.png", "p.png", "d.png",
    }  # fmt: skip
    assert set(keys(source)) - set(found) == {"0.png"}


def test_bad_sidecars_are_the_pictures_failure(tmp_path: Path) -> None:
    members = {
        "0.png": png(), "0.json": b"{", "1.png": png(), "1.json": b"[1]",
        "2.png": png(), "2.txt": b"\xff", "3.png": png(), "3.json": b" " * (2**20 + 1),
        "4.json": b"{}", "5.png": png(), "README.txt": b"hello",
    }  # fmt: skip
    found = reasons(open_source(str(tar(tmp_path / "s.tar", members))))
    assert set(found) == {"0.png", "1.png", "2.png", "3.png", "4.json"}
    assert found["4.json"] == "a sample without a picture"
    assert "not a JSON object" in found["1.png"]


@pytest.mark.parametrize("n_bytes", [700, 1100, 1500, 1700])
def test_a_shard_that_is_cut_off_gives_what_it_has(tmp_path: Path, n_bytes: int) -> None:
    # Blocks of 512: header, data, header, data, end.
    data = b"x" * 512
    whole = tar(tmp_path / "s.tar", {"0.png": data, "1.png": data}).read_bytes()
    (tmp_path / "s.tar").write_bytes(whole[:n_bytes])
    source = open_source(str(tmp_path / "s.tar"))
    found = reasons(source)
    assert "damaged or cut off" in found["./s.tar"]
    assert not source.is_complete
    readable = [key for key in keys(source) if key not in found]
    assert readable == ["0.png"] * (n_bytes >= 1024)


def test_a_shard_with_a_damaged_header_does_not_end_in_silence(tmp_path: Path) -> None:
    content = bytearray(tar(tmp_path / "s.tar", {"0.png": png(), "1.png": png()}).read_bytes())
    content[1024:1034] = b"\xff" * 10  # the second header: its checksum is wrong now
    (tmp_path / "s.tar").write_bytes(content)
    source = open_source(str(tmp_path / "s.tar"))
    assert keys(source) == ["0.png", "./s.tar"]
    assert "no header at byte 1,024" in reasons(source)["./s.tar"]


def test_a_header_that_declares_a_negative_size_does_not_loop(tmp_path: Path) -> None:
    content = bytearray(tar(tmp_path / "s.tar", {"0.png": png()}).read_bytes())
    size = b"\xff" * 8 + (-512 & 0xFFFFFFFF).to_bytes(4, "big")  # base 256, two's complement
    content[512 + 512 :] = content[:512] + bytes(1024)
    header = content[1024:1536]
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[1024:1536] = header
    (tmp_path / "s.tar").write_bytes(content)
    source = open_source(str(tmp_path / "s.tar"))
    found = reasons(source)
    assert list(found) == ["./s.tar"]


def test_an_extended_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    tar(tmp_path / "s.tar", {"0.png": png()})
    header = special("x", tarfile.XHDTYPE)
    header.size = 2**32
    with (tmp_path / "s.tar").open("r+b") as file:
        file.seek(1024)
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(2**32 + 4096)  # sparse: takes no space
    found = reasons(open_source(str(tmp_path / "s.tar")))
    assert "a header of 4294967296 bytes" in found["./s.tar"]


def test_an_archive_that_is_no_webdataset_needs_no_memory_for_its_size(tmp_path: Path) -> None:
    # All share the name before the first dot, as frames of a film do.
    names = [f"film.{n:04}.png" for n in range(200)]
    assert keys(open_source(str(tar(tmp_path / "s.tar", dict.fromkeys(names, png()))))) == names


# All


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("", "there is no ''"),
        ("gone", "there is no 'gone'"),
        ("gone.csv", "there is no 'gone.csv'"),
        ("gone.tar", "there is no shard gone.tar"),
        ("gone-{0..3}.tar", "there is no shard gone-0.tar"),
        ("empty", "holds no pictures"),
        ("texts", "holds no pictures"),
        ("empty.tar", "holds no pictures"),
        ("texts/a.txt", "is no source"),
    ],
)
def test_a_source_that_is_none_is_one_sentence_with_the_right_forms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    put(tmp_path, "texts/a.txt", data=b"words")
    tar(tmp_path / "empty.tar", {})
    with pytest.raises(SourceError, match=said) as raised:
        open_source(location)
    assert "\n" not in str(raised.value)
    assert "give" in str(raised.value)
