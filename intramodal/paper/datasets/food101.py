"""Food101: dishes."""

from __future__ import annotations

from intramodal.paper.disk import in_coop_layout

DECLARED = in_coop_layout(
    "food101",
    title="Food101",
    images="food-101/images",
    split_file="food-101/split_zhou_Food101.json",
    origin="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    licence="scientific fair use; the images are those of Foodspotting's users",
    n_images=101_000,
    template="a photo of {}, a type of food.",
)
