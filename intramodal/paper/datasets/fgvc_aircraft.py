"""FGVCAircraft: variants of aircraft, by its own lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from intramodal.ingest.sources.splits import SPLITS
from intramodal.paper.base import DataSet
from intramodal.paper.disk import Files, Image
from intramodal.types import ImageRecord

FILES = Files(
    "FGVCAircraft",
    layout="fgvc_aircraft/ with images/, variants.txt and images_variant_{train,val,test}.txt",
    origin="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/ (its folder data/, renamed)",
)


def _images(root: Path) -> Iterable[ImageRecord]:
    return FILES.listed(root, "fgvc_aircraft/images", _listed(root))


def _listed(root: Path) -> Iterator[Image]:
    names = [name for name, _ in FILES.lines(root, "fgvc_aircraft/variants.txt")]
    labels = {name: label for label, name in enumerate(names)}
    for split in SPLITS:
        for line in FILES.pairs(root, f"fgvc_aircraft/images_variant_{split}.txt"):
            if line.rest not in labels:
                raise FILES.wrong(
                    f"{line.place} has the variant {line.rest!r}, which variants.txt lacks; "
                    f"correct one of them"
                )
            payload = {"split": split, "label": labels[line.rest], "class": line.rest}
            yield f"{line.first}.jpg", payload


DECLARED = DataSet(
    name="fgvc_aircraft",
    title=FILES.title,
    column="Aircraft",
    open=_images,
    layout=FILES.layout,
    origin=FILES.origin,
    licence="non-commercial research purposes",
    n_images=10_000,
    template="a photo of a {}, a type of aircraft.",
)
