"""Table 1: dogs against cats."""

from __future__ import annotations

from collections.abc import Sequence

from intramodal.paper.base import Cell, Choice, Entry, Layout, Table

_COLUMNS = (
    ("Retrieval T-I, mAP", "class-names", "mAP"),
    ("Retrieval I-I, mAP", "retrieval", "mAP"),
    ("0-shot T-I, accuracy", "class-names", "zero-shot"),
    ("1-shot I-I, accuracy", "few-shot", "prototype@1"),
    ("16-shot I-I, accuracy", "few-shot", "prototype@16"),
)
"""Head, experiment and figure."""

PUBLISHED: dict[str, tuple[float | None, ...]] = {
    "clip_b16": (99.3, 87.1, 99.6, 84.2, 99.7),
    "dinov2_b14": (None, 81.8, None, 76.2, 97.3),
    "dinov3_l16": (None, 84.3, None, 80.2, 97.8),
}


def _layouts(choice: Choice) -> Sequence[Layout]:
    rows = [(dataset, model) for dataset in choice.datasets for model in choice.models]
    entries: dict[tuple[int, int], Entry] = {}
    for row, (dataset, model) in enumerate(rows):
        printed = PUBLISHED.get(model.name, (None,) * len(_COLUMNS))
        for column, (_, experiment, metric) in enumerate(_COLUMNS):
            if experiment == "class-names" and not model.has_text:
                continue
            cell = Cell(experiment, dataset.name, model.name, "original")
            figure = dataset.figure(metric, dataset.fields[0])
            is_papers = dataset.name == DECLARED.datasets[0]
            entries[row, column] = Entry(((cell, figure),), printed[column] if is_papers else None)
    return [
        Layout(
            "Images and texts as queries",
            row_heads=tuple((dataset.title, model.title) for dataset, model in rows),
            column_heads=tuple(head for head, *_ in _COLUMNS),
            entries=entries,
            head_names=("data set", "model"),
            caption="Percent. T-I: texts of the classes against images; I-I: images only.",
        )
    ]


DECLARED = Table(
    name="table1",
    title="Table 1: dogs against cats",
    about="Retrieval and classification of an easy data set, by texts and by images.",
    datasets=("dogs_vs_cats",),
    models=("clip_b16", "dinov2_b14", "dinov3_l16"),
    methods=("original",),
    recipe="paper-text",
    layouts=_layouts,
)
