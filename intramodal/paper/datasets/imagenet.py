"""ImageNet: 1,000 classes by their folders; the validation images are the test split, as in CoOp.

Names of classes are those of CoOp's ``classnames.txt``. One that it gives to two classes is
followed by the class's WordNet id, so that a class is never taken for another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from intramodal.paper.base import DataSet
from intramodal.paper.disk import Files, Image, Images
from intramodal.types import ImageRecord

FILES = Files(
    "ImageNet",
    layout=(
        "imagenet/classnames.txt and imagenet/images/ with train/ and val/, each with a folder "
        "per class such as n01440764/"
    ),
    origin=(
        "https://image-net.org/ (ILSVRC 2012), classnames.txt from the link in CoOp's DATASETS.md"
    ),
)

IMAGES = "imagenet/images"
_SPLITS = {"train": "train", "val": "test"}
"""The split of the images in each folder."""


def _images(root: Path) -> Iterable[ImageRecord]:
    names = class_names(root)
    for folder in _SPLITS:
        check_classes(root, folder, names)
    return Images(root / IMAGES, lambda: _found(root / IMAGES, names))


def class_names(root: Path) -> Mapping[str, str]:
    """Return the name of each class by its WordNet id, in the order of ids."""
    listed = FILES.table(root, "imagenet/classnames.txt")
    uses = Counter(line.rest for line in listed.values())
    return {
        wnid: name if uses[name] == 1 else f"{name} ({wnid})"
        for wnid, name in sorted((wnid, line.rest) for wnid, line in listed.items())
    }


def check_classes(root: Path, folder: str, names: Mapping[str, str]) -> None:
    """Refuse a folder whose classes are not those of `names`."""
    path = FILES.folder(root, f"{IMAGES}/{folder}")
    there = set(FILES.classes(path))
    unknown, absent = sorted(there - names.keys()), sorted(names.keys() - there)
    if unknown:
        raise FILES.wrong(
            f"{path} has the class {unknown[0]}, which classnames.txt lacks; add its name there, "
            f"or remove the folder"
        )
    if absent:
        raise FILES.missing(root, f"{IMAGES}/{folder}/{absent[0]}/")


def _found(folder: Path, names: Mapping[str, str]) -> Iterator[Image]:
    for part, split in _SPLITS.items():
        for label, (wnid, name) in enumerate(names.items()):
            payload = {"split": split, "label": label, "class": name}  # shared: a million of them
            for file in FILES.images(folder / part / wnid):
                yield f"{part}/{wnid}/{file}", payload


DECLARED = DataSet(
    name="imagenet",
    title=FILES.title,
    open=_images,
    layout=FILES.layout,
    origin=FILES.origin,
    licence="non-commercial research and educational purposes",
    n_images=1_331_167,
)
