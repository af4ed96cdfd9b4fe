"""Dogs vs Cats: every image queries all others.

Of Microsoft's download two of the 25,000 files are empty, so that the paper has 24,998 images;
Kaggle's has them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from intramodal.paper.base import DataSet
from intramodal.paper.disk import Files, Image
from intramodal.types import ImageRecord

FILES = Files(
    "Dogs vs Cats",
    layout=(
        "dogs-vs-cats/PetImages/ with Cat/ and Dog/ (Microsoft), or dogs-vs-cats/train/ with "
        "cat.0.jpg, dog.0.jpg, ... (Kaggle)"
    ),
    origin=(
        "https://www.microsoft.com/en-us/download/details.aspx?id=54765 or "
        "https://www.kaggle.com/c/dogs-vs-cats"
    ),
)

_LABELS = {"cat": 0, "dog": 1}
_EMPTY = ("Cat/666.jpg", "Dog/11702.jpg")


def _images(root: Path) -> Iterable[ImageRecord]:
    if (root / "dogs-vs-cats/train").is_dir():
        return FILES.listed(root, "dogs-vs-cats/train", _of_kaggle(root / "dogs-vs-cats/train"))
    folder = FILES.folder(root, "dogs-vs-cats/PetImages")
    for name in ("Cat", "Dog"):
        FILES.folder(root, f"dogs-vs-cats/PetImages/{name}")
    return FILES.listed(root, "dogs-vs-cats/PetImages", _of_microsoft(folder))


def _of_kaggle(folder: Path) -> Iterable[Image]:
    for name in FILES.images(folder):
        yield name, _payload(folder, name, name.partition(".")[0])


def _of_microsoft(folder: Path) -> Iterable[Image]:
    for one in FILES.classes(folder):
        payload = _payload(folder, f"{one}/", one.lower())
        for name in FILES.images(folder / one):
            key = f"{one}/{name}"
            if key not in _EMPTY or (folder / key).stat().st_size:
                yield key, payload


def _payload(folder: Path, name: str, of_class: str) -> dict[str, object]:
    if of_class not in _LABELS:
        raise FILES.wrong(
            f"{folder} has {name}, which is neither of a cat nor a dog; move it away"
        )
    return {"label": _LABELS[of_class], "class": of_class}


DECLARED = DataSet(
    name="dogs_vs_cats",
    title=FILES.title,
    open=_images,
    layout=FILES.layout,
    origin=FILES.origin,
    licence="none stated",
    n_images=24_998,
    protocol="leave-one-out",
    split="",
)
