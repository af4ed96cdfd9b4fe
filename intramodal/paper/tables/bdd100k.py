"""The ablation on BDD100k: where projecting does not help (section 4.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from intramodal.paper.base import Choice, Entry, Layout, Table
from intramodal.paper.layouts import by_dataset, columns_of, pairs_of

PUBLISHED = {("clip_l14", "pca"): {"weather": -2.3, "timeofday": -1.0}}
"""Points of mAP that PCA← gains over the images as they are."""


def _layouts(choice: Choice) -> Sequence[Layout]:
    absolute = by_dataset(
        choice,
        title="Image-image retrieval",
        published={},
        caption="mAP in percent over the full ranking.",
    )
    return [absolute, _differences(choice, absolute)]


def _differences(choice: Choice, absolute: Layout) -> Layout:
    """Return what each method gains over the images as they are."""
    columns, pairs = columns_of(choice), pairs_of(choice)
    base = {model.name: row for row, (model, m) in enumerate(pairs) if m.name == "original"}
    rows = [
        row for row, (model, m) in enumerate(pairs) if m.name != "original" and model.name in base
    ]
    entries = {}
    for at, row in enumerate(rows):
        model, method = pairs[row]
        printed = PUBLISHED.get((model.name, method.name), {})
        for column, (dataset, field) in enumerate(columns):
            entry = absolute.entries[row, column]
            minus = absolute.entries[base[model.name], column].sources
            is_papers = dataset.name == DECLARED.datasets[0]
            entries[at, column] = Entry(
                entry.sources, printed.get(field) if is_papers else None, minus=minus
            )
    return replace(
        absolute,
        title="Gain over the original images",
        row_heads=tuple(absolute.row_heads[row] for row in rows),
        column_heads=absolute.column_heads[: len(columns)],
        entries=entries,
        caption="Points of mAP.",
    )


DECLARED = Table(
    name="bdd100k",
    title="BDD100k: weather, time of day and scene",
    about="PCA← keeps the main concept of an image and loses mAP where the label is another.",
    datasets=("bdd100k",),
    models=("clip_l14",),
    methods=("original", "pca"),
    recipe="paper-table3",
    layouts=_layouts,
)
