"""UCF101: actions, by the middle frame of each video."""

from __future__ import annotations

from intramodal.paper.disk import in_coop_layout

DECLARED = in_coop_layout(
    "ucf101",
    title="UCF101",
    images="ucf101/UCF-101-midframes",
    split_file="ucf101/split_zhou_UCF101.json",
    origin="https://www.crcv.ucf.edu/data/UCF101.php (UCF-101-midframes.zip of CoOp)",
    licence="none stated",
    n_images=13_320,
    template="a photo of a person doing {}.",
)
