"""Files are written whole, under their own names, and over nothing but files."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from intramodal import files
from intramodal.errors import InputError
from intramodal.files import SUFFIXES, check_replaceable, format_of, replacing, write_text


@pytest.mark.parametrize(
    ("name", "formats", "given", "found"),
    [
        ("a.html", ("md", "html"), None, "html"),
        ("a.HTM", ("html",), None, "html"),
        ("a.safetensors", ("vectors",), None, "vectors"),
        ("a.tex", ("md", "latex"), None, "latex"),
        ("a.txt", ("md", "html"), "md", "md"),
        ("a", ("csv",), "csv", "csv"),
        ("folder.v1", ("csv", "trec"), "trec", "trec"),
        ("a.trec", ("csv", "trec"), None, "trec"),
    ],
)
def test_the_format_is_that_of_the_name_or_the_given_one(
    name: str, formats: tuple[str, ...], given: str | None, found: str
) -> None:
    assert format_of(Path(name), formats, given=given) == found


@pytest.mark.parametrize(
    ("name", "formats", "given", "sentence"),
    [
        ("T.npy", ("projection",), None, "does not end in .safetensors; give one as T.safe"),
        ("a.txt", ("md", "html"), None, "does not end in .md, .markdown, .html or .htm"),
        ("page.htlm", ("md", "html"), None, "as page.htm"),
        ("a.html", ("md", "html"), "md", "does not end in .md or .markdown"),
        ("a.txt", ("csv", "parquet"), "parquet", "does not end in .parquet"),
        ("a", ("vectors",), None, "does not end in .npy, .safetensors or .parquet"),
        ("", ("html",), None, "give one as FILE.html"),
    ],
)
def test_another_suffix_is_refused_with_those_there_are(
    name: str, formats: tuple[str, ...], given: str | None, sentence: str
) -> None:
    with pytest.raises(InputError) as refused:
        format_of(Path(name), formats, given=given)
    assert sentence in str(refused.value)


def test_every_suffix_is_small_and_begins_with_a_dot() -> None:
    for suffixes in SUFFIXES.values():
        assert all(s == s.lower() and s.startswith(".") for s in suffixes)


def link(path: Path) -> None:
    path.with_name("target").write_text("precious")
    path.symlink_to("target")


def dangling(path: Path) -> None:
    path.symlink_to("nothing")


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


OTHERS: dict[str, Callable[[Path], None]] = {
    "a link": link,
    "a link ": dangling,
    "a folder": Path.mkdir,
    "a pipe": lambda path: os.mkfifo(path),
    "a socket": listen,
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes, sockets and links with a name")
@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_file_of_its_own_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    path = Path("page.html")
    OTHERS[kind](path)
    before = path.lstat()
    with pytest.raises(InputError, match=f"page.html is {kind.strip()} and is not replaced"):
        write_text(path, "new")
    assert path.lstat().st_ino == before.st_ino
    assert not list(tmp_path.glob(".*.part"))
    target = Path("target")
    assert not target.exists() or target.read_text() == "precious"


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs a device")
def test_a_device_is_never_replaced() -> None:
    with pytest.raises(InputError, match="/dev/null is a device and is not replaced"):
        check_replaceable(Path("/dev/null"))


def test_an_error_within_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    unfinished = replacing(path)
    (part,) = unfinished.__enter__()
    part.write_text("half")
    assert not unfinished.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("page.html", "old")]


def test_a_neighbour_that_is_called_part_is_left_alone(tmp_path: Path) -> None:
    neighbour = tmp_path / "page.html.part"
    neighbour.write_text("somebody's")
    write_text(tmp_path / "page.html", "new")
    assert neighbour.read_text() == "somebody's"
    assert {p.name for p in tmp_path.iterdir()} == {"page.html", "page.html.part"}


def test_a_place_that_cannot_be_written_to_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "absent" / "a.md", tmp_path / f"{'x' * 300}.md"):
        with pytest.raises(InputError, match=r"\.md cannot be written \(.*\); name another file"):
            write_text(path, "new")
    monkeypatch.setattr(files, "token_hex", lambda n: "taken")
    (tmp_path / ".taken.part").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "a.md", "new")


def test_of_two_files_the_first_is_only_there_with_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "a.npy", tmp_path / "a.ids.csv"
    for path in (first, second):
        path.write_text("old")
    seen: list[tuple[str, bool]] = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        seen.append((target.name, first.exists()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    with replacing(first, second) as unfinished:
        for part in unfinished:
            part.write_text("new")
    assert seen == [("a.ids.csv", False), ("a.npy", False)]
    assert [first.read_text(), second.read_text()] == ["new", "new"]
