"""Flowers102: flowers of the United Kingdom."""

from __future__ import annotations

from intramodal.paper.disk import in_coop_layout

DECLARED = in_coop_layout(
    "oxford_flowers",
    title="Flowers102",
    column="Flowers",
    images="oxford_flowers/jpg",
    split_file="oxford_flowers/split_zhou_OxfordFlowers.json",
    origin="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    licence="none stated",
    n_images=8_189,
    template="a photo of a {}, a type of flower.",
)
