"""Caltech101: objects; without the background class and one of the two of faces, as in CoOp."""

from __future__ import annotations

from intramodal.paper.disk import in_coop_layout

DECLARED = in_coop_layout(
    "caltech101",
    title="Caltech101",
    column="Caltech",
    images="caltech-101/101_ObjectCategories",
    split_file="caltech-101/split_zhou_Caltech101.json",
    origin="https://data.caltech.edu/records/mzrjq-6wc02",
    licence="CC BY 4.0",
    n_images=8_242,
)
