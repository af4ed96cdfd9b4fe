"""Data sets read their layouts to the right images, splits and classes, or say what is wrong."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from intramodal import open_store
from intramodal.errors import ImageError, InputError, SourceError
from intramodal.ingest.pipeline import images_collection, ingest_images
from intramodal.paper.base import DataSet, declared
from tests.paper.miniature import COOP, LANDMARKS, WRITERS, Size, write, write_kaggle
from tests.plain_encoder import PlainEncoder

DATASETS = {name: one for name, one in declared("datasets", DataSet).items() if name in WRITERS}

# What is read of each data set; a folder ends in a slash.
PARTS = {
    **{name: (f"{folder}/", split_file) for name, (folder, split_file, _) in COOP.items()},
    "imagenet": (
        *("imagenet/classnames.txt", "imagenet/images/train/", "imagenet/images/val/"),
        "imagenet/images/val/n02012849/",
    ),
    "fgvc_aircraft": (
        *("fgvc_aircraft/images/", "fgvc_aircraft/variants.txt"),
        *(f"fgvc_aircraft/images_variant_{split}.txt" for split in ("train", "val", "test")),
    ),
    **{
        name: (f"{folder}/jpg/", f"{folder}/{file}")
        for name, (folder, file, _) in LANDMARKS.items()
    },
    "cub": (
        *("CUB_200_2011/images/", "CUB_200_2011/images.txt", "CUB_200_2011/classes.txt"),
        "CUB_200_2011/image_class_labels.txt",
    ),
    "dogs_vs_cats": (
        *("dogs-vs-cats/PetImages/", "dogs-vs-cats/PetImages/Cat/"),
        "dogs-vs-cats/PetImages/Dog/",
    ),
    "bdd100k": (
        *("bdd100k/images/100k/train/", "bdd100k/images/100k/val/"),
        "bdd100k/labels/bdd100k_labels_images_train.json",
        "bdd100k/labels/bdd100k_labels_images_val.json",
    ),
}


def payloads(name: str, root: Path) -> dict[str, dict[str, Any]]:
    return {record.key: record.payload for record in DATASETS[name].open(root)}


def refusal(name: str, root: Path) -> str:
    """Return the one sentence in which a data set is refused."""
    with pytest.raises(SourceError) as caught:
        list(DATASETS[name].open(root))
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_every_data_set_has_a_miniature_here() -> None:
    parts_of_others = {"imagenet_val"}
    assert set(declared("datasets", DataSet)) - parts_of_others == set(WRITERS) == set(PARTS)


@pytest.mark.parametrize("name", WRITERS)
def test_a_data_set_reads_its_miniature(tmp_path: Path, name: str) -> None:
    expected = write(tmp_path, name)[name]
    assert payloads(name, tmp_path) == expected
    source = DATASETS[name].open(tmp_path)
    assert [record.key for record in source] == [record.key for record in source]
    assert all(record.read().startswith(b"\xff\xd8\xff") for record in source)


@pytest.mark.parametrize("name", [n for n in WRITERS if n not in ("bdd100k", *LANDMARKS)])
def test_each_class_and_split_has_as_many_images_as_were_written(
    tmp_path: Path, name: str
) -> None:
    write(tmp_path, name, size=Size(5, 2, 3))
    dataset = DATASETS[name]
    rows = payloads(name, tmp_path).values()
    counts = Counter((row.get(dataset.split), row.get(dataset.fields[0])) for row in rows)
    if dataset.protocol == "leave-one-out":
        assert set(counts.values()) == {10}
    elif name == "imagenet":  # no validation split of its own
        assert {
            of: {n for (s, _), n in counts.items() if s == of} for of in ("train", "test")
        } == {
            "train": {7},
            "test": {3},
        }
    else:
        for split, n in (("train", 5), ("val", 2), ("test", 3)):
            assert [m for (s, _), m in counts.items() if s == split] == [n, n, n]


@pytest.mark.parametrize(
    ("name", "part"), [(n, part) for n, parts in PARTS.items() for part in parts]
)
def test_what_is_missing_is_named_with_its_place_and_where_it_comes_from(
    tmp_path: Path, name: str, part: str
) -> None:
    write(tmp_path, name)
    if part.endswith("/"):
        shutil.rmtree(tmp_path / part)
    else:
        (tmp_path / part).unlink()
    said = refusal(name, tmp_path)
    dataset = DATASETS[name]
    assert said.startswith(f"{dataset.title}: there is no ")
    assert part in said
    assert str(tmp_path) in said
    assert f"expected there: {dataset.layout}" in said
    assert said.endswith(f"it comes from {dataset.origin}")


@pytest.mark.parametrize("name", WRITERS)
def test_an_empty_root_is_refused(tmp_path: Path, name: str) -> None:
    assert refusal(name, tmp_path).startswith(f"{DATASETS[name].title}: there is no ")


def is_by_folder(name: str) -> bool:
    """Return whether images are found by listing folders, so that none can be missing."""
    return name in ("imagenet", "dogs_vs_cats")


@pytest.mark.parametrize("name", [name for name in WRITERS if not is_by_folder(name)])
def test_a_listed_image_that_is_missing_says_so_when_it_is_read(tmp_path: Path, name: str) -> None:
    gone = next(iter(write(tmp_path, name)[name]))
    (found,) = (path for path in tmp_path.rglob(Path(gone).name) if str(path).endswith(gone))
    found.unlink()
    (record,) = (record for record in DATASETS[name].open(tmp_path) if record.key == gone)
    with pytest.raises(ImageError, match="no such file"):
        record.read()


@pytest.mark.parametrize("name", WRITERS)
def test_a_broken_image_is_listed_and_the_others_are_ingested(tmp_path: Path, name: str) -> None:
    expected = write(tmp_path, name, size=Size(1, 0, 1))[name]
    broken = next(reversed(expected))
    (path,) = (one for one in tmp_path.rglob(Path(broken).name) if str(one).endswith(broken))
    path.write_bytes(path.read_bytes()[:200])
    encoder = PlainEncoder()
    with open_store(":memory:") as store:
        collection = images_collection(store, name, encoder=encoder)
        done = ingest_images(DATASETS[name].open(tmp_path), collection, encoder=encoder)
    assert [failure["item"] for failure in done.failures] == [broken]
    assert done.written == len(expected) - 1


@pytest.mark.parametrize("name", COOP)
def test_a_wrong_entry_of_a_split_file_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    path = tmp_path / COOP[name][1]
    entries = json.loads(path.read_text())
    entries["test"][1][1] = "7"
    path.write_text(json.dumps(entries))
    assert "test[1] in " in refusal(name, tmp_path)


def replaced(path: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new, 1))

    return change


def made(path: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"\xff\xd8\xff")

    return change


_FGVC, _CUB, _BDD = "fgvc_aircraft/", "CUB_200_2011/", "bdd100k/labels/bdd100k_labels_images_"


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("imagenet", made("imagenet/images/val/n09999999/1.JPEG"), "the class n09999999, which"),
        ("imagenet", replaced("imagenet/classnames.txt", "n02012849 ", "n01440764 "),
         "line 2 of "),
        ("imagenet", replaced("imagenet/classnames.txt", " tench", ""),
         "correct it to two entries"),
        ("fgvc_aircraft", replaced(_FGVC + "images_variant_val.txt", "707-320", "707-999"),
         "the variant '707-999', which variants.txt lacks"),
        ("fgvc_aircraft", replaced(_FGVC + "images_variant_val.txt", "1000004", "1000000"),
         "image '1000000.jpg' in its lists: it is there twice; keep one"),
        ("fgvc_aircraft", replaced(_FGVC + "images_variant_val.txt", "1000004 ", "../../1 "),
         "the path leads out of the folder of images"),
        ("cub", replaced(_CUB + "image_class_labels.txt", "1 1\n", "1 201\n"),
         "the class '201', which classes.txt lacks"),
        ("cub", replaced(_CUB + "image_class_labels.txt", "2 1\n", ""),
         "the image 2, which image_class_labels.txt lacks"),
        ("cub", replaced(_CUB + "classes.txt", "2 002", "1 002"), "repeats 1 of line 1 of "),
        ("dogs_vs_cats", made("dogs-vs-cats/PetImages/Horse/1.jpg"), "neither of a cat nor a dog"),
        ("bdd100k", replaced(_BDD + "val.json", '"rainy"', '"hail"'),
         "has the weather 'hail'; it is one of clear, "),
        ("bdd100k", replaced(_BDD + "val.json", '"name"', '"title"'), "no name with attributes"),
        ("bdd100k", replaced(_BDD + "val.json", '"attributes": {', '"attributes": 7, "x": {'),
         "has the weather None"),
        ("bdd100k", replaced(_BDD + "train.json", "[", "{"), "cannot be read"),
    ],
)  # fmt: skip
def test_an_unknown_class_or_a_wrong_list_is_refused(
    tmp_path: Path, name: str, change: Callable[[Path], None], said: str
) -> None:
    write(tmp_path, name)
    change(tmp_path)
    found = refusal(name, tmp_path)
    assert found.startswith(f"{DATASETS[name].title}: ")
    assert said in found


@pytest.fixture
def as_torchvision_has_it(tmp_path: Path) -> dict[str, dict[str, Any]]:
    expected = write(tmp_path, "fgvc_aircraft")["fgvc_aircraft"]
    (tmp_path / "fgvc-aircraft-2013b").mkdir()
    (tmp_path / "fgvc_aircraft").rename(tmp_path / "fgvc-aircraft-2013b/data")
    return expected


def test_fgvc_aircraft_is_read_as_torchvision_downloads_it(
    tmp_path: Path, as_torchvision_has_it: dict[str, dict[str, Any]]
) -> None:
    assert payloads("fgvc_aircraft", tmp_path) == as_torchvision_has_it
    assert all(record.read() for record in DATASETS["fgvc_aircraft"].open(tmp_path))


@pytest.mark.usefixtures("as_torchvision_has_it")
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("707-320", "707-999", "'val' of .*707-999"), ("1000004", "1000000", "twice")],
)
def test_what_torchvision_cannot_read_is_refused(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    replaced("fgvc-aircraft-2013b/data/images_variant_val.txt", old, new)(tmp_path)
    assert re.search(said, refusal("fgvc_aircraft", tmp_path))


@pytest.mark.usefixtures("as_torchvision_has_it")
def test_torchvision_s_layout_without_torchvision_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(InputError, match=r"pip install 'intramodal\[torchvision\]', or rename"):
        DATASETS["fgvc_aircraft"].open(tmp_path)


def test_a_list_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "cub")
    (tmp_path / "CUB_200_2011/classes.txt").write_bytes(b"1 \xff\n")
    assert "cannot be read" in refusal("cub", tmp_path)


def test_a_folder_that_goes_while_it_is_read_is_named(tmp_path: Path) -> None:
    write(tmp_path, "imagenet")
    images = iter(DATASETS["imagenet"].open(tmp_path))
    next(images)
    shutil.rmtree(tmp_path / "imagenet/images/val")
    with pytest.raises(
        SourceError, match=r"^ImageNet: .*val/n01440764 cannot be listed \(no such"
    ):
        list(images)


def test_dogs_vs_cats_is_read_from_kaggles_download_too(tmp_path: Path) -> None:
    expected = write_kaggle(tmp_path, Size())
    assert payloads("dogs_vs_cats", tmp_path) == expected
    made("dogs-vs-cats/train/horse.1.jpg")(tmp_path)
    assert "neither of a cat nor a dog" in refusal("dogs_vs_cats", tmp_path)


def test_a_file_of_dogs_vs_cats_that_is_empty_in_the_download_is_read_where_it_is_not(
    tmp_path: Path,
) -> None:
    write(tmp_path, "dogs_vs_cats")
    assert "Cat/666.jpg" not in payloads("dogs_vs_cats", tmp_path)
    made("dogs-vs-cats/PetImages/Cat/666.jpg")(tmp_path)
    assert "Cat/666.jpg" in payloads("dogs_vs_cats", tmp_path)


def test_boxes_of_bdd100k_are_not_kept(tmp_path: Path) -> None:
    write(tmp_path, "bdd100k")
    rows = payloads("bdd100k", tmp_path)
    assert {key for row in rows.values() for key in row} == {
        "split", "weather", "timeofday", "scene",
    }  # fmt: skip


@pytest.mark.parametrize("name", DATASETS)
def test_a_declaration_is_whole(name: str) -> None:
    dataset = DATASETS[name]
    assert dataset.name == name
    assert dataset.template.count("{}") == 1
    assert all((dataset.title, dataset.layout, dataset.origin, dataset.licence))
    assert dataset.n_images > 5_000
    is_split = dataset.protocol != "leave-one-out"
    assert bool(dataset.split) is is_split


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "n_classes"), [("caltech101", 100), ("dtd", 47), ("oxford_flowers", 102)]
)
def test_a_real_split_file_has_the_declared_number_of_images(
    tmp_path: Path, real_data: Path, name: str, n_classes: int
) -> None:
    folder, split_file, _ = COOP[name]
    (tmp_path / split_file).parent.mkdir()
    shutil.copyfile(real_data / "splits" / Path(split_file).name, tmp_path / split_file)
    first = json.loads((tmp_path / split_file).read_text())["train"][0][0]
    made(f"{folder}/{first}")(tmp_path)  # one image is there, so that the folder is the right one
    rows = payloads(name, tmp_path)
    assert len(rows) == DATASETS[name].n_images
    names = {row["class"] for row in rows.values()}
    assert len(names) == n_classes
    assert not any("_" in of_class for of_class in names)
