"""BDD100k: weather, time of day and scene of photographs from cars.

Its validation images are the queries; its test images have no labels. An attribute that is
"undefined" says nothing, so that such an image has no label of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from intramodal.errors import reason
from intramodal.paper.base import DataSet
from intramodal.paper.disk import Files, Image
from intramodal.types import ImageRecord

FILES = Files(
    "BDD100k",
    layout=(
        "bdd100k/images/100k/{train,val}/ and "
        "bdd100k/labels/bdd100k_labels_images_{train,val}.json"
    ),
    origin="https://bdd-data.berkeley.edu/ (100K Images, Labels)",
)

_CLASSES = {
    "weather": ("clear", "overcast", "rainy", "snowy", "foggy", "partly cloudy"),
    "timeofday": ("daytime", "night", "dawn/dusk"),
    "scene": (
        *("city street", "highway", "residential", "parking lot", "tunnel", "gas stations"),
    ),
}
_NONE = "undefined"
_SPLITS = {"train": "train", "val": "test"}


def _images(root: Path) -> Iterable[ImageRecord]:
    return FILES.listed(root, "bdd100k/images/100k", _listed(root))


def _listed(root: Path) -> Iterator[Image]:
    for part, split in _SPLITS.items():
        path = FILES.file(root, f"bdd100k/labels/bdd100k_labels_images_{part}.json")
        FILES.folder(root, f"bdd100k/images/100k/{part}")
        for number, entry in enumerate(_entries(path)):
            place = f"entry {number} of {path}"
            if not isinstance(entry, dict) or not {"name", "attributes"} <= entry.keys():
                raise FILES.wrong(f"{place} has no name with attributes; get the file again")
            labels = _labels(entry["attributes"], place)
            yield f"{part}/{entry['name']}", {"split": split, **labels}


def _entries(path: Path) -> list[Any]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            found = json.load(file, object_pairs_hook=_without_boxes)
    except (OSError, ValueError, RecursionError) as error:
        raise FILES.wrong(f"{path} cannot be read ({reason(error)}); get it again") from error
    if not isinstance(found, list):
        raise FILES.wrong(f"{path} is no list of images; get it again")
    return found


def _without_boxes(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object without what boxes and lanes say: more than a gigabyte otherwise."""
    return {key: value for key, value in pairs if key in ("name", "attributes", *_CLASSES)}


def _labels(attributes: Any, place: str) -> dict[str, str]:
    found = {}
    for field, classes in _CLASSES.items():
        value = attributes.get(field, _NONE) if isinstance(attributes, dict) else None
        if value != _NONE and value not in classes:
            raise FILES.wrong(
                f"{place} has the {field} {value!r}; it is one of {', '.join(classes)} or {_NONE}"
            )
        if value != _NONE:
            found[field] = value
    return found


DECLARED = DataSet(
    name="bdd100k",
    title=FILES.title,
    open=_images,
    layout=FILES.layout,
    origin=FILES.origin,
    licence="educational, research and not-for-profit purposes",
    n_images=79_863,
    fields=tuple(_CLASSES),
)
