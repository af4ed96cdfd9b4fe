"""5,000 images of ImageNet's validation set, the first five of each class: figure 5's.

The authors cut the validation set to 5,000 images; which they took is not said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from intramodal.paper.base import DataSet
from intramodal.paper.datasets.imagenet import FILES, IMAGES, check_classes, class_names
from intramodal.paper.disk import Image, Images
from intramodal.types import ImageRecord

_N_EACH = 5


def _images(root: Path) -> Iterable[ImageRecord]:
    names = class_names(root)
    check_classes(root, "val", names)

    def found() -> Iterator[Image]:
        for label, (wnid, name) in enumerate(names.items()):
            for file in islice(FILES.images(root / IMAGES / "val" / wnid), _N_EACH):
                yield f"val/{wnid}/{file}", {"label": label, "class": name}

    return Images(root / IMAGES, found)


DECLARED = DataSet(
    name="imagenet_val",
    title="ImageNet val",
    open=_images,
    layout=FILES.layout,
    origin=FILES.origin,
    licence="non-commercial research and educational purposes",
    n_images=5_000,
    protocol="leave-one-out",
    split="",
)
