"""FGVCAircraft: variants of aircraft, by its own lists, in CoOp's layout or torchvision's.

It is the one data set whose images and splits torchvision reads as the paper uses them: of the
others it knows other splits, or none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from intramodal.errors import InputError, reason
from intramodal.ingest.sources.splits import SPLITS
from intramodal.paper.base import DataSet
from intramodal.paper.disk import Files, Image
from intramodal.types import ImageRecord

FILES = Files(
    "FGVCAircraft",
    layout=(
        "fgvc_aircraft/ with images/, variants.txt and images_variant_{train,val,test}.txt, or "
        "fgvc-aircraft-2013b/ as torchvision downloads it"
    ),
    origin="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/ (its folder data/, renamed)",
)

_TORCHVISION = "fgvc-aircraft-2013b"


def _images(root: Path) -> Iterable[ImageRecord]:
    if (root / _TORCHVISION).is_dir() and not (root / "fgvc_aircraft").is_dir():
        return FILES.listed(root, f"{_TORCHVISION}/data/images", _read_by_torchvision(root))
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


def _read_by_torchvision(root: Path) -> Iterator[Image]:
    for split in SPLITS:
        try:
            from torchvision.datasets import FGVCAircraft

            # Its loader takes the name of each file, and reads nothing.
            images = FGVCAircraft(root, split=split, loader=os.path.basename)
        except (ImportError, TypeError) as error:
            raise InputError(
                f"{root / _TORCHVISION} is read by torchvision 0.22 or later; pip install "
                f"'intramodal[torchvision]', or rename its folder data/ to {root}/fgvc_aircraft"
            ) from error
        except (KeyError, ValueError, OSError) as error:
            raise FILES.wrong(
                f"torchvision cannot read the split {split!r} of {root / _TORCHVISION} "
                f"({reason(error)}); get it again"
            ) from error
        for name, label in images:
            yield name, {"split": split, "label": label, "class": images.classes[label]}


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
