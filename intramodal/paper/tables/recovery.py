"""No degrees of freedom: image-image cosines recovered from image-text ones (section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

from intramodal.paper.base import Cell, Choice, Entry, Layout, Table
from intramodal.paper.experiments import ANCHOR_SHARES

_HEADS = {
    **{f"rms@{share:g}": f"{share:g} d anchors" for share in ANCHOR_SHARES},
    "rms@none": "no anchors",
}


def _layouts(choice: Choice) -> Sequence[Layout]:
    models = [model for model in choice.models if model.has_text]
    rows = [(dataset, model) for dataset in choice.datasets for model in models]
    entries = {
        (row, column): Entry(
            ((Cell("recovery", dataset.name, model.name, "original"), name),),
            # The paper proves it: d anchors of full rank determine every image.
            published=0.0 if name == "rms@1" else None,
        )
        for row, (dataset, model) in enumerate(rows)
        for column, name in enumerate(_HEADS)
    }
    return [
        Layout(
            "Error of recovered image-image cosines",
            row_heads=tuple((dataset.title, model.title) for dataset, model in rows),
            column_heads=tuple(_HEADS.values()),
            entries=entries,
            head_names=("data set", "model"),
            caption="Root mean square error; d: dimensions of the embedding.",
            percent=False,
            best="none",  # rows are of different models, and an error is no merit
        )
    ]


DECLARED = Table(
    name="recovery",
    title="Recovering image-image cosines from image-text cosines",
    about="With d text anchors, or without any from d (d + 1) / 2 images, nothing is left free.",
    datasets=("caltech101",),
    models=("clip_b32", "clip_b16", "siglip_b16"),
    methods=("original",),
    recipe="paper-text",
    layouts=_layouts,
)
