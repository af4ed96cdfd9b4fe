"""Rows and columns that several tables share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from intramodal.paper.base import Cell, Choice, DataSet, Entry, Layout, Method, Model

Key = tuple[str, str]
"""Names of a model and a method."""

Column = tuple[DataSet, str]
"""A data set and one of its fields."""


def columns_of(choice: Choice) -> list[Column]:
    """Return the data sets asked for, one column for each of their fields."""
    return [(dataset, field) for dataset in choice.datasets for field in dataset.fields]


def column_head(dataset: DataSet, field: str) -> str:
    """Return what heads a data set's column, with the field where it has several."""
    head = dataset.column or dataset.title
    return head if len(dataset.fields) == 1 else f"{head} {field}"


def pairs_of(choice: Choice) -> list[tuple[Model, Method]]:
    """Return the models and methods that go together, model by model."""
    return [
        (model, method)
        for model in choice.models
        for method in choice.methods
        if model.has_text or not method.needs_text
    ]


def by_dataset(
    choice: Choice,
    *,
    title: str,
    experiment: str = "retrieval",
    metric: Callable[[Method], str] = lambda method: "mAP",
    published: Mapping[Key, Mapping[str, float]],
    caption: str = "",
) -> Layout:
    """Return models and methods by data sets, with the average of each row.

    Parameters
    ----------
    metric : callable
        From a method to the name of its figure.
    published : mapping
        The paper's percentages, by model and method, then by data set; "average" for the row's.
    """
    columns, pairs = columns_of(choice), pairs_of(choice)
    entries: dict[tuple[int, int], Entry] = {}
    for row, (model, method) in enumerate(pairs):
        printed = published.get((model.name, method.name), {})
        sources = [
            (
                Cell(experiment, dataset.name, model.name, method.name),
                dataset.figure(metric(method), field),
            )
            for dataset, field in columns
        ]
        for column, ((dataset, _), source) in enumerate(zip(columns, sources, strict=True)):
            entries[row, column] = Entry((source,), printed.get(dataset.name))
        if len(columns) > 1:
            is_whole = {dataset.name for dataset, _ in columns} == set(printed) - {"average"}
            average = printed.get("average") if is_whole else None
            entries[row, len(columns)] = Entry(tuple(sources), average)
    return Layout(
        title,
        row_heads=tuple((model.title, head_of(method)) for model, method in pairs),
        column_heads=(
            *(column_head(*column) for column in columns),
            *(("Average",) if len(columns) > 1 else ()),
        ),
        entries=entries,
        head_names=("model", "method"),
        caption=caption,
    )


def head_of(method: Method) -> str:
    """Return a method's title with what it compares."""
    return f"{method.title} {method.symbol}".strip()


def by_shots(
    choice: Choice,
    *,
    title: str,
    experiment: str,
    shots: Sequence[int],
    classifiers: Callable[[Method], Mapping[str, str]],
    published: Mapping[tuple[str, str, str], Sequence[float]],
    has_own: bool = False,
) -> Layout:
    """Return models, classifiers and methods by shots: means over the data sets asked for.

    Parameters
    ----------
    classifiers : callable
        From a method to the titles of its classifiers, by their names.
    has_own : bool
        Whether every method is a classifier itself, so that rows need not name it twice.
    published : mapping
        The paper's percentages at each number of shots, by model, classifier and method; they
        are shown where all the paper's data sets are asked for.
    """
    rows = [
        (model, method, name, text)
        for model in choice.models
        for name in _names(choice, classifiers)
        for method in choice.methods
        if model.has_text or not method.needs_text
        for text in (classifiers(method).get(name),)
        if text
    ]
    entries = {}
    for row, (model, method, name, _) in enumerate(rows):
        printed = published.get((model.name, name, method.name), ())
        for column, n_shots in enumerate(shots):
            sources = tuple(
                (
                    Cell(experiment, dataset.name, model.name, method.name),
                    dataset.figure(f"{name}@{n_shots}", dataset.fields[0]),
                )
                for dataset in choice.datasets
            )
            entries[row, column] = Entry(sources, printed[column] if printed else None)
    return Layout(
        title,
        row_heads=tuple(
            (model.title, *(() if has_own else (text,)), head_of(method))
            for model, method, _, text in rows
        ),
        column_heads=tuple(f"{n} shot" if n == 1 else f"{n} shots" for n in shots),
        entries=entries,
        head_names=("model", "method") if has_own else ("model", "classifier", "images"),
        caption=f"Accuracy in percent, mean over {len(choice.datasets)} data sets.",
        shots=tuple(shots),
    )


def _names(choice: Choice, classifiers: Callable[[Method], Mapping[str, str]]) -> list[str]:
    """Return the classifiers of all methods, each once, in their order."""
    return list(dict.fromkeys(name for method in choice.methods for name in classifiers(method)))


_INDICATORS = {
    "overlap": "overlap, same / other class",
    "auc": "AUC, same / other class",
    "modality overlap": "overlap, text-image / image-image",
    "modality gap": "modality gap",
    "mAP": "mAP",
}


def indicators(choice: Choice) -> list[Layout]:
    """Return the indicators said to show misalignment, beside the mAP that decides."""
    rows = [
        (dataset, model, method)
        for dataset in choice.datasets
        for model, method in pairs_of(choice)
    ]
    entries = {
        (row, column): Entry(
            (
                (
                    Cell("misalignment", dataset.name, model.name, method.name),
                    dataset.figure(name, dataset.fields[0]),
                ),
            )
        )
        for row, (dataset, model, method) in enumerate(rows)
        for column, name in enumerate(_INDICATORS)
    }
    return [
        Layout(
            "Indicators of misalignment",
            row_heads=tuple((d.title, model.title, head_of(m)) for d, model, m in rows),
            column_heads=tuple(_INDICATORS.values()),
            entries=entries,
            head_names=("data set", "model", "images"),
            caption="Fractions; the mAP is leave-one-out.",
            percent=False,
            best="none",  # no indicator says which images are better
        )
    ]
