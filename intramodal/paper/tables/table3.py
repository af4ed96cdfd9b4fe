"""Table 3: image-image retrieval."""

from __future__ import annotations

from collections.abc import Sequence

from intramodal.paper.base import Choice, Layout, Table
from intramodal.paper.layouts import by_dataset

DATASETS = (
    *("roxford", "rparis", "stanford_cars", "oxford_pets", "oxford_flowers", "fgvc_aircraft"),
    *("dtd", "eurosat", "food101", "sun397", "caltech101", "ucf101", "imagenet"),
)

_PRINTED = """
clip_b32    original 42.4 74.0 24.9 31.2 62.5 14.5 28.3 49.3 33.6 34.6 77.7 46.2 21.6 41.6
clip_b32    oti      43.0 70.3 28.0 37.5 62.6 14.4 31.9 47.2 34.7 36.3 79.9 48.6 23.8 42.9
clip_b32    pca      51.4 80.9 34.6 47.7 70.3 16.1 34.0 53.8 43.0 40.0 83.3 53.3 28.6 49.0
clip_l14    original 57.1 77.8 43.8 47.2 84.2 25.8 33.9 57.8 55.0 39.2 83.8 59.5 33.0 53.7
clip_l14    oti      62.4 77.1 50.5 56.0 86.0 27.1 37.7 56.3 55.9 43.5 87.3 62.8 38.2 57.0
clip_l14    pca      64.5 83.0 57.2 62.7 88.9 28.7 39.9 62.8 64.4 46.0 89.5 66.8 42.2 61.3
siglip_b16  original 50.6 73.1 65.7 56.4 87.5 37.9 39.8 53.3 56.3 42.8 87.2 56.9 35.8 57.2
siglip_b16  oti      55.2 79.1 71.8 64.2 89.7 37.6 43.3 52.9 59.0 43.6 88.9 54.9 38.8 60.0
siglip_b16  pca      57.9 78.4 77.2 68.5 92.0 40.9 44.2 54.2 61.8 46.9 91.2 60.3 43.5 62.8
slip_b16    original 36.5 79.2 4.9 17.8 65.7 9.1 29.7 53.7 19.5 26.1 65.4 40.2 15.4 35.6
slip_b16    oti      36.4 79.3 5.0 19.3 65.1 9.0 30.5 50.6 20.0 26.4 67.6 40.6 14.8 35.7
slip_b16    pca      43.6 83.9 6.2 23.1 72.5 10.3 32.2 53.2 25.1 30.7 70.7 42.4 19.1 39.4
siglip2_b16 original 52.5 75.6 70.8 56.6 89.3 40.7 38.6 49.3 59.7 43.0 89.2 59.2 37.9 58.6
siglip2_b16 pca      59.4 78.6 80.2 67.8 93.2 46.3 44.1 51.1 65.3 48.9 93.0 63.0 46.5 64.4
dinov3_l16  original 91.4 93.5 68.6 82.3 99.4 39.8 44.9 59.9 71.0 50.1 90.7 70.6 57.6 70.8
"""
"""Model, method, mAP in percent as printed in the order of `DATASETS`, average."""

PUBLISHED = {
    (model, method): dict(zip((*DATASETS, "average"), map(float, values), strict=True))
    for model, method, *values in map(str.split, _PRINTED.strip().splitlines())
}


def _layouts(choice: Choice) -> Sequence[Layout]:
    return [
        by_dataset(
            choice,
            title="Image-image retrieval",
            published=PUBLISHED,
            caption="mAP in percent over the full ranking. ROxford and RParis: medium protocol.",
        )
    ]


DECLARED = Table(
    name="table3",
    title="Table 3: image-image retrieval",
    about="mAP of the images as they are, of OTI's pseudo-words, and of PCA←, on 13 data sets.",
    datasets=DATASETS,
    models=("clip_b32", "clip_l14", "siglip_b16", "slip_b16", "siglip2_b16", "dinov3_l16"),
    methods=("original", "oti", "pca"),
    recipe="paper-table3",
    layouts=_layouts,
)
