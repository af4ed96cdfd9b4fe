from __future__ import annotations

import io
import os
import socket
import sys
from pathlib import Path

import pytest
from PIL import Image

from intramodal.errors import ImageError, SourceError
from intramodal.ingest.sources.base import MAX_FILE_BYTES, label_rule
from intramodal.ingest.sources.formats import open_source
from intramodal.ingest.sources.pictures import NamedSource
from tests.unit.ingest.sources_kit import (
    IS_ROOT,
    keys,
    needs_posix,
    payloads,
    png,
    put,
    reasons,
    tar,
)

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
    assert reasons(source) == {"x.jpg": "a folder with the name of an image"}


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
@pytest.mark.skipif(IS_ROOT, reason="root may read all")
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


# All


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("", "there is no ''"),
        ("gone", "there is no 'gone'"),
        ("gone.csv", "there is no 'gone.csv'"),
        ("gone.tar", "there is no shard gone.tar"),
        ("gone-{0..3}.tar", "there is no shard gone-0.tar"),
        ("empty", "holds no images"),
        ("texts", "holds no images"),
        ("empty.tar", "holds no images"),
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
