"""EuroSAT: land use from satellites; its class names are cleaned in the split file, as in CoOp."""

from __future__ import annotations

from intramodal.paper.disk import in_coop_layout

DECLARED = in_coop_layout(
    "eurosat",
    title="EuroSAT",
    images="eurosat/2750",
    split_file="eurosat/split_zhou_EuroSAT.json",
    origin="https://github.com/phelber/EuroSAT",
    licence="MIT",
    n_images=27_000,
    template="a centered satellite photo of {}.",
)
