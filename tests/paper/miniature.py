"""Miniatures of the paper's data sets: real layouts and list formats, a few generated images.

`write(root, name)` makes one and returns what a reader must find in it. Images differ by class, by
hue and stripes, so that the demo encoder tells most of them apart, but not all.
"""

from __future__ import annotations

import colorsys
import json
import pickle
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

Found = dict[str, dict[str, Any]]
"""By key the payload of each image."""

SIDE = 48


@dataclass(frozen=True)
class Size:
    """Images per class in each split."""

    train: int = 4
    val: int = 1
    test: int = 3

    def rows(self) -> Iterator[tuple[str, int]]:
        """Yield the split and the number of each image of a class."""
        number = 0
        for split in ("train", "val", "test"):
            for _ in range(getattr(self, split)):
                yield split, number
                number += 1

    @property
    def total(self) -> int:
        return self.train + self.val + self.test


SMALL = Size()


def draw(path: Path, looks: Sequence[float], seed: tuple[int, ...]) -> None:
    """Write an image whose hue, stripes and brightness are near `looks`, each from 0 to 1."""
    rng = np.random.default_rng(seed)
    hue, stripes, value = (float(look) + rng.normal(0, 0.08) for look in looks)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    angle = rng.uniform(0, np.pi)
    wave = np.sin(2 * np.pi * (2 + 8 * abs(stripes)) * (x * np.cos(angle) + y * np.sin(angle)))
    color = np.array(colorsys.hsv_to_rgb(hue % 1, 0.7, 0.4 + 0.5 * np.clip(value, 0, 1)))
    pixels = 255 * color * (0.75 + 0.25 * wave[..., None]) + rng.normal(0, 25, (SIDE, SIDE, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=90)


def draw_class(path: Path, of: str, label: int, n_classes: int, number: int) -> None:
    """Write image `number` of a class; each data set has colours of its own."""
    own = zlib.crc32(of.encode())
    looks = (label / n_classes + own % 97 / 97, (label * 5 % n_classes) / n_classes, 0.5)
    draw(path, looks, (own, label, number))


class CoopClass(NamedTuple):
    """A class in a split file: where its images lie, and the name it has there."""

    path: str
    """With ``{n}`` for the number of the image."""
    name: str
    label: int


COOP = {
    "caltech101": (
        "caltech-101/101_ObjectCategories",
        "caltech-101/split_zhou_Caltech101.json",
        [
            CoopClass("Faces/image_{n:04d}.jpg", "face", 0),
            CoopClass("Leopards/image_{n:04d}.jpg", "leopard", 1),
            CoopClass("sea_horse/image_{n:04d}.jpg", "sea_horse", 78),
        ],
    ),
    "oxford_pets": (
        "oxford_pets/images",
        "oxford_pets/split_zhou_OxfordPets.json",
        [
            CoopClass("Abyssinian_{n}.jpg", "abyssinian", 0),
            CoopClass("american_bulldog_{n}.jpg", "american_bulldog", 1),
            CoopClass("Bengal_{n}.jpg", "bengal", 5),
        ],
    ),
    "stanford_cars": (
        "stanford_cars",
        "stanford_cars/split_zhou_StanfordCars.json",
        [
            CoopClass("cars_train/0{n:04d}.jpg", "2012 Audi TTS Coupe", 13),
            CoopClass("cars_train/1{n:04d}.jpg", "2012 Acura TL Sedan", 2),
            CoopClass("cars_test/0{n:04d}.jpg", "1993 Volvo 240 Sedan", 193),
        ],
    ),
    "oxford_flowers": (
        "oxford_flowers/jpg",
        "oxford_flowers/split_zhou_OxfordFlowers.json",
        [
            CoopClass("image_0{n:04d}.jpg", "passion flower", 76),
            CoopClass("image_1{n:04d}.jpg", "pink primrose", 0),
            CoopClass("image_2{n:04d}.jpg", "hard-leaved pocket orchid", 1),
        ],
    ),
    "food101": (
        "food-101/images",
        "food-101/split_zhou_Food101.json",
        [
            CoopClass("apple_pie/10{n:05d}.jpg", "apple_pie", 0),
            CoopClass("baby_back_ribs/10{n:05d}.jpg", "baby_back_ribs", 1),
            CoopClass("sushi/10{n:05d}.jpg", "sushi", 95),
        ],
    ),
    "eurosat": (
        "eurosat/2750",
        "eurosat/split_zhou_EuroSAT.json",
        [
            CoopClass("AnnualCrop/AnnualCrop_{n}.jpg", "Annual Crop Land", 0),
            CoopClass("Forest/Forest_{n}.jpg", "Forest", 1),
            CoopClass("SeaLake/SeaLake_{n}.jpg", "Sea or Lake", 9),
        ],
    ),
    "ucf101": (
        "ucf101/UCF-101-midframes",
        "ucf101/split_zhou_UCF101.json",
        [
            CoopClass("Apply_Eye_Makeup/v_ApplyEyeMakeup_g01_c{n:02d}.jpg", "Apply_Eye_Makeup", 0),
            CoopClass("Archery/v_Archery_g01_c{n:02d}.jpg", "Archery", 2),
            CoopClass("Yo_Yo/v_YoYo_g01_c{n:02d}.jpg", "Yo_Yo", 100),
        ],
    ),
    "dtd": (
        "dtd/images",
        "dtd/split_zhou_DescribableTextures.json",
        [
            CoopClass("banded/banded_{n:04d}.jpg", "banded", 0),
            CoopClass("blotchy/blotchy_{n:04d}.jpg", "blotchy", 1),
            CoopClass("zigzagged/zigzagged_{n:04d}.jpg", "zigzagged", 46),
        ],
    ),
    "sun397": (
        "sun397/SUN397",
        "sun397/split_zhou_SUN397.json",
        [
            CoopClass("a/abbey/sun_a{n:04d}.jpg", "abbey", 0),
            CoopClass(
                "a/apartment_building/outdoor/sun_b{n:04d}.jpg", "outdoor apartment_building", 7
            ),
            CoopClass("y/yard/sun_c{n:04d}.jpg", "yard", 395),
        ],
    ),
}
"""By data set: the folder of images, the split file, and some of its real classes."""


def split_entries(classes: Sequence[CoopClass], size: Size = SMALL) -> dict[str, list[list[Any]]]:
    """Return the content of a split file."""
    entries: dict[str, list[list[Any]]] = {"train": [], "val": [], "test": []}
    for one in classes:
        for split, number in size.rows():
            entries[split].append([one.path.format(n=number), one.label, one.name])
    return entries


def write_coop(root: Path, name: str, size: Size = SMALL) -> Found:
    """Write a data set with a split file, and an image that the file does not list."""
    folder, split_file, classes = COOP[name]
    entries = split_entries(classes, size)
    for place, one in enumerate(classes):
        for _, number in size.rows():
            path = root / folder / one.path.format(n=number)
            draw_class(path, name, place, len(classes), number)
    draw_class(root / folder / "not_listed" / "image_0001.jpg", name, 0, 1, 99)
    (root / split_file).write_text(json.dumps(entries, indent=4, separators=(",", ": ")))
    return {
        path: {"split": split, "label": label, "class": of_class.replace("_", " ")}
        for split, rows in entries.items()
        for path, label, of_class in rows
    }


WNIDS = {"n01440764": "tench", "n02012849": "crane", "n03126707": "crane"}
"""Two of the classes have one name, as in lists of ImageNet's names."""


def write_imagenet(root: Path, size: Size = SMALL) -> Found:
    home = root / "imagenet"
    names = {"n01440764": "tench", "n02012849": "crane (n02012849)"}
    names["n03126707"] = "crane (n03126707)"
    found: Found = {}
    for label, wnid in enumerate(WNIDS):
        for split, number in size.rows():
            file = f"{wnid}_{number}" if split != "test" else f"ILSVRC2012_val_{number:08d}"
            key = f"{'val' if split == 'test' else 'train'}/{wnid}/{file}.JPEG"
            draw_class(home / "images" / key, "imagenet", label, len(WNIDS), number)
            given = "test" if split == "test" else "train"
            found[key] = {"split": given, "label": label, "class": names[wnid]}
    lines = (f"{wnid} {name}\n" for wnid, name in WNIDS.items())
    (home / "classnames.txt").write_text("".join(lines))
    return found


VARIANTS = ("707-320", "F/A-18", "Falcon 900")


def write_fgvc_aircraft(root: Path, size: Size = SMALL) -> Found:
    home = root / "fgvc_aircraft"
    lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    found: Found = {}
    for label, variant in enumerate(VARIANTS):
        for split, number in size.rows():
            image = f"{label + 1}{number:06d}"
            path = home / "images" / f"{image}.jpg"
            draw_class(path, "fgvc_aircraft", label, len(VARIANTS), number)
            lines[split].append(f"{image} {variant}\n")
            found[f"{image}.jpg"] = {"split": split, "label": label, "class": variant}
    (home / "variants.txt").write_text("".join(f"{variant}\n" for variant in VARIANTS))
    for split, some in lines.items():
        (home / f"images_variant_{split}.txt").write_text("".join(some))
    return found


BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "200.Common_Yellowthroat")


def write_cub(root: Path, size: Size = SMALL) -> Found:
    home = root / "CUB_200_2011"
    images, labels = [], []
    found: Found = {}
    for label, bird in enumerate(BIRDS):
        for number in range(size.total):
            key = f"{bird}/{bird[4:]}_{number:04d}_{label}.jpg"
            draw_class(home / "images" / key, "cub", label, len(BIRDS), number)
            images.append(f"{len(images) + 1} {key}\n")
            labels.append(f"{len(labels) + 1} {label + 1}\n")
            found[key] = {"label": label, "class": bird[4:].replace("_", " ")}
    (home / "images.txt").write_text("".join(images))
    (home / "image_class_labels.txt").write_text("".join(labels))
    classes = (f"{label + 1} {bird}\n" for label, bird in enumerate(BIRDS))
    (home / "classes.txt").write_text("".join(classes))
    return found


def write_dogs_vs_cats(root: Path, size: Size = SMALL) -> Found:
    """Write Microsoft's download, with its empty files and those that are no images."""
    home = root / "dogs-vs-cats" / "PetImages"
    found: Found = {}
    for label, name in enumerate(("Cat", "Dog")):
        for number in range(size.total):
            key = f"{name}/{number}.jpg"
            draw_class(home / key, "dogs_vs_cats", label, 2, number)
            found[key] = {"label": label, "class": name.lower()}
        (home / name / "Thumbs.db").write_bytes(b"no image")
    (home / "Cat" / "666.jpg").write_bytes(b"")
    (home / "Dog" / "11702.jpg").write_bytes(b"")
    return found


def write_kaggle(root: Path, size: Size = SMALL) -> Found:
    """Write Kaggle's download of Dogs vs Cats."""
    home = root / "dogs-vs-cats" / "train"
    found: Found = {}
    for label, name in enumerate(("cat", "dog")):
        for number in range(size.total):
            draw_class(home / f"{name}.{number}.jpg", "dogs_vs_cats", label, 2, number)
            found[f"{name}.{number}.jpg"] = {"label": label, "class": name}
    return found


BDD = {
    "weather": ("clear", "rainy", "snowy"),
    "timeofday": ("daytime", "night"),
    "scene": ("city street", "highway"),
}


def write_bdd100k(root: Path, size: Size = SMALL) -> Found:
    """Write every combination of attributes, and an image whose weather is undefined."""
    home = root / "bdd100k"
    entries: dict[str, list[Any]] = {"train": [], "val": []}
    found: Found = {}
    for place in range(12 * size.total):
        combination, number = place % 12, place // 12
        at = dict(zip(BDD, np.unravel_index(combination, (3, 2, 2)), strict=True))
        attributes = {field: BDD[field][choice] for field, choice in at.items()}
        if place == 0:
            attributes["weather"] = "undefined"
        part = "train" if number < size.train + size.val else "val"
        key = f"{part}/{place:08x}-{number:08x}.jpg"
        looks = (at["weather"] / 3, at["scene"] / 2, at["timeofday"] / 2)
        draw(home / "images" / "100k" / key, looks, (place,))
        entries[part].append(_bdd_entry(key, attributes))
        known = {field: value for field, value in attributes.items() if value != "undefined"}
        found[key] = {"split": "test" if part == "val" else "train", **known}
    (home / "labels").mkdir(parents=True)
    for part, some in entries.items():
        path = home / "labels" / f"bdd100k_labels_images_{part}.json"
        path.write_text(json.dumps(some, indent=4))
    return found


def _bdd_entry(key: str, attributes: Mapping[str, str]) -> dict[str, Any]:
    """Return an entry as the labels have it, with a box."""
    box = {"x1": 45.2, "y1": 254.5, "x2": 357.8, "y2": 487.9}
    car = {"category": "car", "attributes": {"occluded": False}, "box2d": box, "id": 0}
    name = key.partition("/")[2]
    return {"name": name, "attributes": dict(attributes), "timestamp": 10000, "labels": [car]}


LANDMARKS = {
    "roxford": ("roxford5k", "gnd_roxford5k.pkl", ("all_souls", "ashmolean", "radcliffe_camera")),
    "rparis": ("rparis6k", "gnd_rparis6k.pkl", ("paris_defense", "paris_eiffel", "paris_louvre")),
}
"""By data set: its folder, its ground truth, and some of its real landmarks."""


def write_landmarks(root: Path, name: str, size: Size = SMALL) -> Found:
    """Write a revisited data set: the test images are queries, all others the gallery.

    Of the images of a landmark the last is junk, and the others are easy and hard by turns; each
    landmark's first query has no easy image.
    """
    folder, file, landmarks = LANDMARKS[name]
    images: dict[str, list[tuple[int, str]]] = {"gallery": [], "query": []}
    for label, landmark in enumerate(landmarks):
        for split, number in size.rows():
            image = f"{landmark}_{number:06d}"
            draw_class(root / folder / "jpg" / f"{image}.jpg", name, label, 3, number)
            images["query" if split == "test" else "gallery"].append((label, image))
    draw_class(root / folder / "jpg" / f"{landmarks[0]}_999999.jpg", name, 0, 3, 99)  # not named
    gnd = []
    for q, (label, _) in enumerate(images["query"]):
        own = [g for g, (of, _) in enumerate(images["gallery"]) if of == label]
        judged = {"easy": own[:-1:2], "hard": own[1:-1:2], "junk": own[-1:]}
        if q % size.test == 0:
            judged = {"easy": [], "hard": own[:-1], "junk": own[-1:]}
        gnd.append({"bbx": [4.5, 3.2, 40.6, 44.9], **judged})
    names = {split: [image for _, image in rows] for split, rows in images.items()}
    data = {"imlist": names["gallery"], "qimlist": names["query"], "gnd": gnd}
    (root / folder / file).write_bytes(pickle.dumps(data, protocol=2))
    found: Found = {
        f"{image}.jpg": {"split": "gallery", "name": image} for image in names["gallery"]
    }
    for image in names["query"]:
        found[f"{image}.jpg"] = {"split": "query", "name": image, "cropped": False}
    return found


WRITERS: dict[str, Callable[[Path, Size], Found]] = {
    **{name: lambda root, size, name=name: write_coop(root, name, size) for name in COOP},  # type: ignore[misc]
    **{
        name: lambda root, size, name=name: write_landmarks(root, name, size)  # type: ignore[misc]
        for name in LANDMARKS
    },
    "imagenet": write_imagenet,
    "fgvc_aircraft": write_fgvc_aircraft,
    "cub": write_cub,
    "dogs_vs_cats": write_dogs_vs_cats,
    "bdd100k": write_bdd100k,
}
"""By data set, what writes its miniature below a root and returns what is in it."""


def write(root: Path, *names: str, size: Size = SMALL) -> dict[str, Found]:
    """Write the miniatures of some data sets, or of all; return what is in each."""
    return {name: WRITERS[name](root, size) for name in names or WRITERS}
