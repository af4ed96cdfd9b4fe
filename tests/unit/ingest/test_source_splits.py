"""Split files of the few-shot field, in CoOp's layout."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from intramodal.errors import SourceError
from intramodal.ingest.sources.base import Source
from intramodal.ingest.sources.formats import open_source
from intramodal.ingest.sources.splits import read_split_file
from tests.unit.ingest.sources_kit import keys, needs_posix, payloads, put, reasons

PETS = {
    "train": [["cats/1.png", 0, "cat"], ["dogs/1.png", 1, "dog"], ["cats/2.png", 0, "cat"]],
    "val": [["dogs/2.png", 1, "dog"]],
    "test": [["dogs/3.png", 1, "dog"], ["cats/3.png", 0, "cat"]],
}
LISTED = [path for rows in PETS.values() for path, _, _ in rows]


def write(folder: Path, content: Any) -> Path:
    """Write a split file as CoOp writes it: JSON of four blanks."""
    path = folder / "split_zhou_Pets.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=4))
    return path


def opened(folder: Path, content: Any = PETS, **more: Any) -> Source:
    put(folder / "images", *LISTED)
    split_file = write(folder, content)
    return open_source(str(folder / "images"), split_file=split_file, **more)


def refusal(folder: Path, content: Any) -> str:
    with pytest.raises(SourceError) as caught:
        opened(folder, content)
    return str(caught.value)


def changed(split: str, place: int, entry: Any) -> dict[str, Any]:
    rows = [*PETS[split]]
    rows[place] = entry
    return {**PETS, split: rows}


def test_each_listed_image_has_split_label_and_class_and_no_other_file_is_read(
    tmp_path: Path,
) -> None:
    put(tmp_path / "images", "cats/not listed.png", "extra.png")
    source = opened(tmp_path)
    assert keys(source) == LISTED
    assert keys(source) == LISTED
    assert payloads(source) == {
        path: {"split": split, "label": label, "class": name}
        for split, rows in PETS.items()
        for path, label, name in rows
    }
    assert not reasons(source)
    assert source.is_complete
    assert next(iter(source)).read() == (tmp_path / "images/cats/1.png").read_bytes()
    assert len(list(source.names() or ())) == len(LISTED)


def test_a_label_from_the_path_is_added(tmp_path: Path) -> None:
    source = opened(tmp_path, label_from="(?P<folder>[^/]+)/")
    expected = {"split": "val", "label": 1, "class": "dog", "folder": "dogs"}
    assert payloads(source)["dogs/2.png"] == expected


def test_a_listed_image_that_is_missing_says_so_and_the_others_are_read(tmp_path: Path) -> None:
    gone = "cats/gone.png"
    # A name that no file system takes is missing, too.
    too_long = "x" * 5_000
    content = {"train": [[too_long, 0, "cat"], *PETS["train"]]}
    assert set(reasons(opened(tmp_path, content))) == {too_long}
    source = opened(tmp_path, changed("train", 2, [gone, 0, "cat"]))
    assert reasons(source) == {gone: "no such file, or a link that leads nowhere"}
    assert len(keys(source)) == len(LISTED)
    assert payloads(source)[gone] == {"split": "train", "label": 0, "class": "cat"}


@needs_posix
def test_a_listed_image_that_is_a_link_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    put(tmp_path, "secret.png")
    source = opened(tmp_path)
    (tmp_path / "images/cats/1.png").unlink()
    (tmp_path / "images/cats/1.png").symlink_to(tmp_path / "secret.png")
    assert reasons(source) == {"cats/1.png": "leads out of the source"}


def test_paths_are_normalised_so_that_ids_are_those_of_the_folder(tmp_path: Path) -> None:
    source = opened(tmp_path, changed("val", 0, ["./dogs//2.png", 1, "dog"]))
    assert keys(source) == LISTED


def test_a_split_may_be_absent_or_empty(tmp_path: Path) -> None:
    source = opened(tmp_path, {"train": PETS["train"], "test": PETS["test"], "val": []})
    assert len(keys(source)) == 5
    assert len(keys(opened(tmp_path, {"test": PETS["test"]}))) == 2


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (["cats/1.png", 0], "an entry is [path, label, class name]; give these three"),
        (["cats/1.png", 0, "cat", 1], "an entry is [path, label, class name]"),
        ({"path": "cats/1.png"}, "an entry is [path, label, class name]"),
        (["cats/1.png", "0", "cat"], 'the label is "0"; give a whole number from 0'),
        (["cats/1.png", 0.0, "cat"], "the label is 0.0; give a whole number from 0"),
        (["cats/1.png", True, "cat"], "the label is true; give a whole number from 0"),
        (["cats/1.png", -1, "cat"], "the label is -1; give a whole number from 0"),
        (["cats/1.png", None, "cat"], "the label is null; give a whole number from 0"),
        (["cats/1.png", 0, 7], "the class name is 7; give a text"),
        (["cats/1.png", 0, " "], 'the class name is " "; give a text'),
        (["cats/1.png", 0, "\ud83d"], "the class name is "),
        ([7, 0, "cat"], "the path is 7; give that of an image"),
        (["", 0, "cat"], 'the path is ""; give that of an image'),
        (["a\0.png", 0, "cat"], "the path is "),
        (["\udcff.png", 0, "cat"], "the path is "),
        (["/data/cats/1.png", 0, "cat"], "the path is absolute; make it relative to the folder"),
        (["../cats/1.png", 0, "cat"], "the path leads out of the folder of images"),
        (["cats/../../1.png", 0, "cat"], "the path leads out of the folder of images"),
        ([".", 0, "cat"], "the path leads out of the folder of images"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_place(tmp_path: Path, entry: Any, said: str) -> None:
    found = refusal(tmp_path, changed("train", 0, entry))
    assert found.startswith("train[0] in ")
    assert said in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (changed("test", 1, ["cats/1.png", 0, "cat"]), "twice, as train[0] and test[1]; keep one"),
        (changed("train", 2, ["cats/./1.png", 0, "cat"]), "twice, as train[0] and train[2]"),
        (
            changed("test", 1, ["cats/3.png", 0, "dog"]),
            "'cat' in train[0] and 'dog' in test[1]; give each label one class name",
        ),
        (
            changed("val", 0, ["dogs/2.png", 2, "dog"]),
            "has label 1 in train[1] and 2 in val[0]; give each class one label",
        ),
        ({**PETS, "valid": []}, 'a split "valid"; rename it to one of train, val, test'),
        ({**PETS, "val": {"a": 1}}, 'val in '),
        ({"train": [], "val": [], "test": []}, "lists no images"),
        ({}, "lists no images"),
        (PETS["train"], "not an object of splits; give {"),
        ("null", "holds null, not an object of splits"),
        ("{", "is not valid JSON"),
        ('{"train": [], "train": []}', "'train' occurs twice"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"train": [["a", ' + "1" * 5_000 + ', "b"]]}', "is not valid JSON"),
        ("path,label\n", "is not valid JSON"),
    ],
)  # fmt: skip
def test_a_malformed_split_file_is_refused_in_one_sentence(
    tmp_path: Path, content: Any, said: str
) -> None:
    found = refusal(tmp_path, content)
    assert said in found
    assert str(tmp_path / "split_zhou_Pets.json") in found
    assert "\n" not in found


def test_bytes_that_are_no_text_are_refused_and_a_byte_order_mark_is_none(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(SourceError, match="cannot be read"):
        read_split_file(path)
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(PETS).encode())
    assert len(read_split_file(path)) == len(LISTED)


def test_an_absent_split_file_and_one_that_is_a_folder_are_refused(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "gone.json", "no such file"), (tmp_path, "not a file")):
        with pytest.raises(SourceError, match=said):
            read_split_file(path)


@needs_posix
def test_a_pipe_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="a pipe, not a file"):
        read_split_file(tmp_path / "pipe")


def test_a_folder_above_the_images_is_refused_and_the_right_one_named(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(SourceError) as caught:
        open_source(str(tmp_path), split_file=tmp_path / "split_zhou_Pets.json")
    said = str(caught.value)
    assert said.startswith(f"{tmp_path} has none of the 6 images that ")
    assert f"(is it {tmp_path / 'images'}?)" in said


def test_a_folder_of_other_images_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    put(tmp_path / "others", "9.png")
    with pytest.raises(SourceError, match=r"has none of the 6 .* cats/1.png; give the folder"):
        open_source(str(tmp_path / "others"), split_file=tmp_path / "split_zhou_Pets.json")


@pytest.mark.parametrize("source", ["-", "no such folder", "images/extra.png"])
def test_a_split_file_needs_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    opened(tmp_path)
    put(tmp_path, "images/extra.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="lists images in a folder, which"):
        open_source(source, split_file="split_zhou_Pets.json")


REAL = {
    "Caltech101": ((4128, 1649, 2465), 100),
    "DescribableTextures": ((2820, 1128, 1692), 47),
    "OxfordFlowers": ((4093, 1633, 2463), 102),
}
"""Train, val and test images, and classes, as CoOp and those after it report them."""


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
def test_real_split_files_have_the_counts_that_the_field_reports(
    real_data: Path, name: str
) -> None:
    found = read_split_file(real_data / "splits" / f"split_zhou_{name}.json")
    counts, n_classes = REAL[name]
    splits = [entry.split for entry in found]
    assert tuple(splits.count(split) for split in ("train", "val", "test")) == counts
    assert {entry.label for entry in found} == set(range(n_classes))
    assert len({entry.name for entry in found}) == n_classes
