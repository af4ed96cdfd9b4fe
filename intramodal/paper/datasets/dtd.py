"""DTD: textures."""

from __future__ import annotations

from intramodal.paper.disk import in_coop_layout

DECLARED = in_coop_layout(
    "dtd",
    title="DTD",
    images="dtd/images",
    split_file="dtd/split_zhou_DescribableTextures.json",
    origin="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    licence="research purposes",
    n_images=5_640,
    template="{} texture.",
)
