"""CUB-200-2011: species of birds; every image queries all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from intramodal.paper.base import DataSet
from intramodal.paper.disk import Files, Image, spaced
from intramodal.types import ImageRecord

FILES = Files(
    "CUB-200-2011",
    layout="CUB_200_2011/ with images/, images.txt, image_class_labels.txt and classes.txt",
    origin="https://www.vision.caltech.edu/datasets/cub_200_2011/",
)


def _images(root: Path) -> Iterable[ImageRecord]:
    return FILES.listed(root, "CUB_200_2011/images", _listed(root))


def _listed(root: Path) -> Iterator[Image]:
    paths, classes, names = (
        FILES.table(root, f"CUB_200_2011/{name}.txt")
        for name in ("images", "image_class_labels", "classes")
    )
    labels = {number: label for label, number in enumerate(names)}
    for number, path in paths.items():
        of_class = classes.get(number)
        if of_class is None:
            raise FILES.wrong(
                f"{path.place} has the image {number}, which image_class_labels.txt lacks; "
                f"correct one of them"
            )
        if of_class.rest not in names:
            raise FILES.wrong(
                f"{of_class.place} has the class {of_class.rest!r}, which classes.txt lacks; "
                f"correct one of them"
            )
        name = _name(names[of_class.rest].rest)
        yield path.rest, {"label": labels[of_class.rest], "class": name}


def _name(folder: str) -> str:
    """Return the species of a folder.

    Examples
    --------
    >>> _name("001.Black_footed_Albatross")
    'Black footed Albatross'
    """
    return spaced(folder.partition(".")[2] or folder)


DECLARED = DataSet(
    name="cub",
    title=FILES.title,
    open=_images,
    layout=FILES.layout,
    origin=FILES.origin,
    licence="non-commercial research and educational purposes",
    n_images=11_788,
    protocol="leave-one-out",
    split="",
    template="a photo of a {}, a type of bird.",
)
