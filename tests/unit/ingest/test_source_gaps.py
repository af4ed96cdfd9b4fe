"""What a source did not yield is known to be gone only if it could be read as a whole."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from pathlib import Path

import pytest

from intramodal.errors import SourceError
from intramodal.ingest.sources.formats import open_source
from intramodal.ingest.sources.pictures import NamedSource
from tests.unit.ingest.sources_kit import (
    IS_ROOT,
    keys,
    needs_posix,
    png,
    put,
    reasons,
    special,
    tar,
)


def gap(location: Path | str) -> str | None:
    """Return the gap of a source that was read to its end."""
    source = open_source(str(location))
    keys(source)
    assert source.is_complete == (source.gap is None)
    return source.gap


def test_a_source_is_complete_only_after_its_end(tmp_path: Path) -> None:
    source = open_source(str(put(tmp_path, "1.png", "2.png")))
    assert source.gap == "it was not read to its end"
    records = iter(source)
    next(records)
    assert not source.is_complete
    assert [record.key for record in records] == ["2.png"]
    assert source.is_complete
    next(iter(source))
    assert not source.is_complete


# Folders


@needs_posix
@pytest.mark.parametrize("name", [b"caf\xe9", b"caf\xe9.txt", b"caf\xe9.png"])
def test_a_folder_whose_name_is_no_text_may_hide_pictures(tmp_path: Path, name: bytes) -> None:
    put(tmp_path, "1.png")
    hidden = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    put(hidden, "2.png")
    assert "the name is not UTF-8" in str(gap(tmp_path))


@needs_posix
def test_a_text_whose_name_is_no_text_hides_none(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("words")
    assert gap(tmp_path) is None


@needs_posix
@pytest.mark.skipif(IS_ROOT, reason="root may read all")
def test_a_file_that_may_be_a_picture_and_cannot_be_opened_is_listed(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.txt")
    (tmp_path / "2.txt").chmod(0)
    assert reasons(open_source(str(tmp_path))) == {"2.txt": "Permission denied"}


# Lists


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("l.csv", b"path\n1.png\n../2.png\n", "leads out of the list's folder"),
        ("l.csv", b"path\n1.png\n/elsewhere/2.png\n", "leads out of the list's folder"),
        ("l.csv", b"path,n\n1.png,1\n ,2\n", "l.csv:3: the row has no 'path'"),
        ("l.jsonl", b'{"path": "1.png"}\n{"path": "2.p', "l.jsonl:2: the line is not JSON"),
        ("l.jsonl", b'{"path": "1.png"}\n{"path": "2\\u0000"}\n', "holds a NUL byte"),
        ("l.jsonl", b'{"path": "1.png"}\n{"path": "\\ud800.png"}\n', "the name is not UTF-8"),
        ("l.jsonl", b'{"path": "1.png"}\n' + b"\0" * 64, "l.jsonl:2: the line is not JSON"),
        ("l.csv", b"path,n\n1.png,1\n" + b"\0" * 64, "the row holds a NUL byte"),
        ("l.csv", b"path\n1.png\n2.p", "the last line (l.csv:3) does not end in a line break"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value)[-24:],
)
def test_a_row_without_a_usable_path_may_hide_a_picture(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    put(tmp_path, name, data=data)
    assert said in str(gap(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("l.csv", b"path,n\n1.png,1\n\nabsent.png,2\n\n"),
        ("l.tsv", b"path\r\n1.png\r\n"),
        ("l.jsonl", b'{"path": "1.png"}\n{"path": "absent.png"}'),
    ],
)
def test_pictures_that_are_known_by_their_path_hide_no_others(
    tmp_path: Path, name: str, data: bytes
) -> None:
    put(tmp_path, name, data=data)
    assert gap(tmp_path / name) is None


def test_a_parquet_list_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"path": [f"{n}.png" for n in range(1000)]}), tmp_path / "l.parquet")
    whole = (tmp_path / "l.parquet").read_bytes()
    for n_bytes in (len(whole) // 2, len(whole) - 1):
        (tmp_path / "l.parquet").write_bytes(whole[:n_bytes])
        with pytest.raises(SourceError, match="is not a Parquet file"):
            open_source(str(tmp_path / "l.parquet"))


# Tar shards


def test_a_shard_that_is_cut_off_anywhere_is_not_complete(tmp_path: Path) -> None:
    whole = tar(tmp_path / "s.tar", {"0.png": b"x" * 512, "1.png": b"x" * 700}).read_bytes()
    n_members = 512 + 512 + 512 + 1024  # headers, and data in blocks of 512
    for n_bytes in range(256, n_members + 1, 128):
        (tmp_path / "s.tar").write_bytes(whole[:n_bytes])
        assert "damaged or cut off" in str(gap(tmp_path / "s.tar")), n_bytes
    for n_bytes in range(n_members + 512, len(whole) + 1, 512):
        (tmp_path / "s.tar").write_bytes(whole[:n_bytes])
        assert gap(tmp_path / "s.tar") is None, n_bytes


def test_archives_that_were_joined_are_not_complete(tmp_path: Path) -> None:
    one, two = (tar(tmp_path / f"{n}.tar", {f"{n}.png": png(n)}).read_bytes() for n in range(2))
    (tmp_path / "both.tar").write_bytes(one + two)
    assert "another archive follows the end mark" in str(gap(tmp_path / "both.tar"))
    (tmp_path / "padded.tar").write_bytes(one.rstrip(b"\0") + bytes(2048) + b"what was there" * 9)
    assert gap(tmp_path / "padded.tar") is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../1.png", "leads out"),
        ("/abs/1.png", "leads out"),
        ("caf\udce9.png", "the name is not UTF-8"),
        ("1.json", "no image belongs to it"),
    ],
)
def test_a_member_without_a_usable_name_may_hide_a_picture(
    tmp_path: Path, name: str, said: str
) -> None:
    assert said in str(gap(tar(tmp_path / "s.tar", {"0.png": png(), name: b"{}"})))


def test_a_link_in_a_shard_is_known_by_the_key_of_its_picture(tmp_path: Path) -> None:
    members = {"./0.png": png(), "./1.png": special("./1.png", tarfile.LNKTYPE, "./0.png")}
    source = open_source(str(tar(tmp_path / "s.tar", members)))
    assert keys(source) == ["0.png", "1.png"]
    assert source.is_complete


# Stdin


def named(text: bytes) -> NamedSource:
    return NamedSource("-", stream=io.BytesIO(text))


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"])
def test_paths_that_end_in_a_line_break_are_complete(end: bytes) -> None:
    source = named(b"a.png\nb.png" + end)
    assert keys(source) == ["a.png", "b.png"]
    assert source.is_complete


def test_paths_that_end_within_a_line_are_not_complete() -> None:
    source = named(b"a.png\nb.p")
    assert keys(source) == ["a.png", "b.p"]
    assert "the last path (line 2) does not end in a line break" in str(source.gap)


@needs_posix
def test_a_path_on_stdin_that_is_no_text_may_hide_a_picture() -> None:
    source = named(b"a.png\ncaf\xe9.png\n")
    assert keys(source) == ["a.png", "./caf\\xe9.png"]
    assert not source.is_complete


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a.png\nb.png\0c.png\0", "line 2 of stdin holds a NUL byte; .* `find -print0` does not"),
        (b"a.png\n" + b"x" * 65_536, "line 2 of stdin is longer than 65,536 bytes"),
        (b"a.png\n" + b"x" * 200_000 + b"\nb.png\n", "line 2 of stdin is longer than 65,536"),
    ],
    ids=["NUL", "at the end", "long"],
)
def test_stdin_that_holds_no_lines_is_refused(text: bytes, said: str) -> None:
    source = named(text)
    with pytest.raises(SourceError, match=said):
        keys(source)
    assert not source.is_complete


def test_the_longest_path_on_stdin_is_read_whole() -> None:
    path = "x" * 65_535
    assert keys(named(path.encode() + b"\nb.png\n")) == [path, "b.png"]


def test_stdin_that_cannot_be_read_is_one_sentence() -> None:
    class HungUp(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            raise OSError(errno.EIO, "Input/output error")

    source = NamedSource("-", stream=io.BufferedReader(HungUp()))
    with pytest.raises(SourceError, match=r"stdin cannot be read \(Input/output error\)"):
        keys(source)
    assert not source.is_complete
