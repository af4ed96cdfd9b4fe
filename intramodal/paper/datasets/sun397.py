"""SUN397: scenes; the split file lists 39,700 of the 108,754 images."""

from __future__ import annotations

from intramodal.paper.disk import in_coop_layout

DECLARED = in_coop_layout(
    "sun397",
    title="SUN397",
    images="sun397/SUN397",
    split_file="sun397/split_zhou_SUN397.json",
    origin="https://vision.princeton.edu/projects/2010/SUN/",
    licence="none found",
    n_images=39_700,
)
