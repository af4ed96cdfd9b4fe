"""What reproducing a table would take: its cells, what is missing, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from intramodal.errors import InputError, IntramodalError
from intramodal.paper.base import (
    Cell,
    Choice,
    DataSet,
    Layout,
    Method,
    Model,
    Table,
    chosen,
    declared,
    models_of,
)
from intramodal.paper.outcomes import DoneCells
from intramodal.paper.workbench import Bench, made_from, own_data, own_model
from intramodal.projection.projection import Projection
from intramodal.runs.ledger import RunLedger
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import RAW, own_vector


@dataclass(frozen=True)
class PlannedImages:
    """What one model needs of one data set.

    Parameters
    ----------
    dataset, model : str
    n_images : int or None
        Images of the data set; None where it cannot be read.
    n_to_encode : int or None
        Of them, at most so many are still to be encoded; those that its authors name where it
        cannot be read.
    n_to_invert : int
        Queries that OTI inverts, each by 150 steps through the text tower.
    seconds : float or None
        To encode them, at the rate of this model's latest ingest; None where there was none.
    missing : str
        Why the data set cannot be read, and what is expected where.
    condition : str
        What must be done once before the model can be downloaded.
    """

    dataset: str
    model: str
    n_images: int | None
    n_to_encode: int | None
    n_to_invert: int
    seconds: float | None
    missing: str
    condition: str


@dataclass(frozen=True, eq=False, repr=False)
class ReproductionPlan:
    """A table of the paper before its cells are measured.

    Parameters
    ----------
    table : Table
    choice : Choice
    layouts : sequence of Layout
    cells : list of Cell
    bench : Bench
    """

    table: Table
    choice: Choice
    layouts: Sequence[Layout]
    cells: list[Cell]
    bench: Bench

    def images(self) -> list[PlannedImages]:
        """Return what each model needs of each data set; reads lists, encodes nothing."""
        datasets = {dataset.name: dataset for dataset in self.choice.datasets}
        models = {model.name: model for model in self.choice.models}
        pairs = dict.fromkeys((cell.dataset, cell.model) for cell in self.cells)
        return [self._of_pair(datasets[name], models[model]) for name, model in pairs]

    def done(self) -> list[Cell]:
        """Return the cells that an earlier call has measured already."""
        kept = DoneCells(self.bench.ledger, self.bench.stated())
        datasets = {dataset.name: dataset for dataset in self.choice.datasets}
        models = {model.name: model for model in self.choice.models}
        pairs = dict.fromkeys((cell.dataset, cell.model) for cell in self.cells)
        about = {(d, m): self._made_from(datasets[d], models[m]) for d, m in pairs}
        return [
            cell
            for cell in self.cells
            if (facts := about[cell.dataset, cell.model]) and kept.find(cell, facts)
        ]

    def _made_from(self, dataset: DataSet, model: Model) -> Mapping[str, Any] | None:
        """Return what its cells rest on; None without its images or its ground truth."""
        if not self.bench.is_ingested(dataset, model):
            return None
        try:
            return made_from(self.bench.case(dataset, model))
        except IntramodalError:
            return None

    def _of_pair(self, dataset: DataSet, model: Model) -> PlannedImages:
        is_ingested = self.bench.is_ingested(dataset, model)
        n: int | None = None
        n_queries, missing = 0, ""
        try:
            n, n_queries = self._counted(dataset)
        except IntramodalError as error:
            missing = "" if is_ingested else str(error)
        expected = None if self.bench.limit else dataset.n_images
        n_to_encode = 0 if is_ingested else expected if n is None else n
        rate = self.bench.images_per_second(model)
        return PlannedImages(
            dataset.name,
            model.name,
            n_images=n,
            n_to_encode=n_to_encode,
            n_to_invert=n_queries if self._inverts(dataset, model) else 0,
            seconds=n_to_encode / rate if rate and n_to_encode is not None else None,
            missing=missing,
            condition=model.condition if n_to_encode else "",
        )

    def _counted(self, dataset: DataSet) -> tuple[int, int]:
        """Return the numbers of images and of queries, without holding a million records."""
        if self.bench.on is not None:
            return dataset.n_images, dataset.n_images
        n = n_queries = 0
        for image in self.bench.images(dataset):
            n += 1
            side = image.payload.get(dataset.split)
            n_queries += dataset.protocol == "leave-one-out" or side in ("test", "query")
        return n, n_queries

    def _inverts(self, dataset: DataSet, model: Model) -> bool:
        methods = declared("methods", Method)
        return any(
            methods[cell.method].retrieve is not None
            for cell in self.cells
            if (cell.dataset, cell.model) == (dataset.name, model.name)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        done = set(self.done())
        return {
            "table": self.table.name,
            "title": self.table.title,
            **self.bench.stated(),
            "n_cells": len(self.cells),
            "cells": [
                {**asdict(cell), "state": "done" if cell in done else "open"}
                for cell in self.cells
            ],
            "images": [asdict(one) for one in self.images()],
        }

    def __repr__(self) -> str:
        """Return the table and its number of cells."""
        return f"ReproductionPlan({self.table.name!r}, {len(self.cells)} cells)"


def plan_reproduction(  # noqa: PLR0913  a job has as many knobs as it has
    table: str,
    store: Store,
    *,
    ledger: RunLedger,
    root: Path | None = None,
    work: Path = Path("reproduced/work"),
    datasets: Sequence[str] = (),
    models: Sequence[str] = (),
    methods: Sequence[str] = (),
    recipe: str | None = None,
    limit: int | None = None,
    crop: bool = False,
    augment: bool = False,
    on: ImageCollection | None = None,
    labels: Sequence[str] = (),
    split: str | None = None,
    vector: str | None = None,
    projection: Projection | None = None,
) -> ReproductionPlan:
    """Return what reproducing a table takes; reads lists, encodes nothing. See `reproduce`.

    Parameters
    ----------
    table : str
        "table1", "table2", "table3", "figure2", "figure5", "figure6", "bdd100k" or "recovery".
    store : Store
    ledger : RunLedger
        Holds the cells.
    root : Path
        The folder with the data sets, each in its own layout; see `DataSet.layout`.
    work : Path
        A folder for fitted projections and inverted texts.
    datasets, models, methods : sequence of str
        By name, a model also as ``NAME=ENCODER``; by default those of the paper's table.
    recipe : str, optional
        Which of the authors' recipes projections are fitted by; by default the table's own.
    limit : int, optional
        Take so many images per class and split: a quick look, and marked as such.
    crop : bool
        Crop the queries of Oxford and Paris to their boxes, as the published benchmark does and
        the authors do not.
    augment : bool
        Take few-shot shots from one augmented view of each image, for models for which the
        authors do: CLIP.
    on : ImageCollection, optional
        Measure this collection instead of the paper's data sets; nothing is ingested.
    labels : sequence of str
        Its payload fields that say what is relevant.
    split : str, optional
        Its payload field with the values ``test`` and ``train``; by default leave-one-out.
    vector : str, optional
        Its named vector of the encoder's own output; by default the one that no projection has
        made.
    projection : Projection, optional
        Taken for PCA← instead of fitting one by the recipe: then no text tower is needed.

    Raises
    ------
    InputError
        If there is no such table, data set, model, method or recipe, or no data root.
    """
    (declaration,) = chosen("tables", Table, [table])
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1 image per class and split, got {limit}")
    if on is not None and not labels:
        raise InputError(f"the tables of {on.name!r} need labels; name its payload fields")
    if on is None and (root is None or not root.is_dir()):
        what = "no data root is given" if root is None else f"there is no folder {root}"
        raise InputError(f"{what}; name the folder that holds the data sets")
    vector = RAW if on is None else own_vector(on, vector)
    choice = Choice(
        (own_data(on, labels, split),)
        if on
        else chosen("datasets", DataSet, datasets or declaration.datasets),
        (own_model(on, vector),) if on else models_of(models or declaration.models),
        chosen("methods", Method, methods or declaration.methods),
    )
    layouts = declaration.layouts(choice)
    bench = Bench(
        store,
        ledger,
        root=root,
        work=work,
        recipe=recipe or declaration.recipe,
        limit=limit,
        crop=crop,
        augment=augment,
        on=on,
        vector=vector,
        fitted=projection,
    )
    return ReproductionPlan(declaration, choice, layouts, cells_of(layouts), bench)


def cells_of(layouts: Iterable[Layout]) -> list[Cell]:
    """Return the cells that tables are made from, each once, by model and data set."""
    found = {
        source[0]: None
        for layout in layouts
        for entry in layout.entries.values()
        for source in (*entry.sources, *entry.minus)
    }
    return sorted(found, key=lambda cell: (cell.model, cell.dataset, cell.experiment, cell.method))
