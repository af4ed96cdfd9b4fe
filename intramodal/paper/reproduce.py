"""Reproduce a table or figure of the paper: ingest what is missing, measure, show."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from intramodal.errors import InputError, IntramodalError
from intramodal.files import write_text
from intramodal.paper.base import (
    Case,
    Cell,
    Choice,
    DataSet,
    Layout,
    Method,
    Model,
    Table,
    declared,
)
from intramodal.paper.drawings import drawings
from intramodal.paper.experiments import EXPERIMENTS
from intramodal.paper.grids import grid_of
from intramodal.paper.outcomes import KIND, DoneCells, Outcome, keep
from intramodal.paper.plan import ReproductionPlan
from intramodal.paper.workbench import Bench, made_from
from intramodal.progress import progress
from intramodal.reports.grid import Grid, render_grids, to_csv, to_latex
from intramodal.runs.frames import stacked_frames
from intramodal.runs.records import FailureRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, repr=False)
class Reproduction:
    """A table of the paper with our figures.

    Parameters
    ----------
    table : Table
    layouts : sequence of Layout
    outcomes : mapping of Cell to Outcome
    recipe : str
    limit : int or None
        Images per class and split, where this is a quick look only.
    run_id : str or None
    """

    table: Table
    layouts: Sequence[Layout]
    outcomes: Mapping[Cell, Outcome]
    recipe: str
    limit: int | None = None
    run_id: str | None = None

    @property
    def n_failed(self) -> int:
        """Cells that failed."""
        return sum(outcome.state == "failed" for outcome in self.outcomes.values())

    def grids(self) -> list[Grid]:
        """Return the tables with our figures, the paper's and the differences."""
        banner = ""
        if self.limit is not None:
            banner = (
                f"A quick look at {self.limit} images per class and split: these are not the "
                f"figures of the whole data sets."
            )
        return [grid_of(layout, self.outcomes, banner=banner) for layout in self.layouts]

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints: the tables, and every cell with its figures."""
        return {
            "table": self.table.name,
            "title": self.table.title,
            "recipe": self.recipe,
            "limit": self.limit,
            "n_cells": len(self.outcomes),
            "n_failed": self.n_failed,
            "tables": [grid.to_dict() for grid in self.grids()],
            "cells": [outcome.to_dict() for outcome in self.outcomes.values()],
            "run_id": self.run_id,
        }

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row for each place; needs the extra ``notebook``."""
        return stacked_frames(grid.to_frame() for grid in self.grids())

    def to_markdown(self) -> str:
        """Return the tables in Markdown."""
        return f"## {self.table.title}\n\n" + "\n".join(g.to_markdown() for g in self.grids())

    def to_latex(self) -> str:
        """Return the tables for LaTeX."""
        return to_latex(self.grids())

    def to_csv(self) -> str:
        """Return one line for each place of the tables."""
        return to_csv(self.grids())

    def write(self, folder: Path, *, command: str = "") -> list[Path]:
        """Write the tables as Markdown, LaTeX, CSV, JSON and a page; return the files."""
        made_folder(folder)
        texts = {
            ".md": self.to_markdown(),
            ".tex": self.to_latex(),
            ".csv": self.to_csv(),
            ".json": json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n",
        }
        for suffix, text in texts.items():
            write_text(folder / f"{self.table.name}{suffix}", text)
        page = folder / f"{self.table.name}.html"
        about = [self.table.about]
        if any(cell.method != "original" for cell in self.outcomes):
            about.append(f"PCA←: {self.recipe}.")
        render_grids(
            self.grids(),
            page,
            title=self.table.title,
            about=about,
            figures=drawings(self.layouts, self.outcomes),
            command=command,
            run_id=self.run_id,
        )
        return [*(folder / f"{self.table.name}{suffix}" for suffix in texts), page]

    def __repr__(self) -> str:
        """Return the table, the number of cells and how many failed."""
        limited = f", limit {self.limit}" if self.limit else ""
        return (
            f"Reproduction({self.table.name!r}, {len(self.outcomes)} cells, "
            f"{self.n_failed} failed{limited})"
        )


def reproduce(
    plan: ReproductionPlan,
    *,
    device: str | None = None,
    precision: str | None = None,
    batch_size: int = 32,
) -> Reproduction:
    """Reproduce one of the paper's tables and figures, or the same of a collection of one's own.

    Images that are not stored yet are ingested, into one collection for each data set and model.
    Cells that are done stay done, in this store and this ledger: the call resumes where another
    was interrupted, to the same figures. A cell that fails is shown as failed, with the reason,
    and is tried again by the next call.

    Parameters
    ----------
    plan : ReproductionPlan
        What `plan_reproduction` returns: the table, where it is measured, and of what.
    device, precision : str, optional
        As `load_encoder` takes them.
    batch_size : int
        Images encoded at once.
    """
    stated = {"table": plan.table.name, **plan.bench.stated()}
    with plan.bench.ledger.run("reproduce", parameters=stated) as run:
        bench = replace(
            plan.bench, device=device, precision=precision, batch_size=batch_size, parent=run.id
        )
        outcomes = dict(measured(plan.cells, plan.choice, bench))
        run.log_failures(
            FailureRecord(str(cell), "cell", one.reason)
            for cell, one in outcomes.items()
            if one.state == "failed"
        )
    return Reproduction(plan.table, plan.layouts, outcomes, bench.maps, bench.limit, run.id)


def made_folder(folder: Path) -> None:
    """Make a folder for tables unless it is there; `InputError` if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be made ({error.strerror}); name another"
        ) from error


def measured(
    cells: Sequence[Cell], choice: Choice, bench: Bench
) -> Iterator[tuple[Cell, Outcome]]:
    """Yield every cell with what became of it, model by model."""
    datasets = {dataset.name: dataset for dataset in choice.datasets}
    models = {model.name: model for model in choice.models}
    pairs = {(cell.model, cell.dataset): None for cell in cells}
    done = DoneCells(bench.ledger, bench.stated())
    with progress(len(cells), "reproduce", unit="cells") as bar:
        for name, dataset in pairs:
            bar.set_description_str(f"reproduce {name}, {dataset}", refresh=False)
            of_pair = [cell for cell in cells if (cell.model, cell.dataset) == (name, dataset)]
            for outcome in _of_pair(of_pair, bench, done, datasets[dataset], models[name]):
                yield outcome.cell, outcome
                bar.update(1)


def _of_pair(
    cells: Sequence[Cell], bench: Bench, done: DoneCells, dataset: DataSet, model: Model
) -> Iterator[Outcome]:
    """Yield the outcomes of one data set under one model; without its images all have failed."""
    try:
        case = bench.case(dataset, model)
        about = made_from(case)
    except Exception as error:  # noqa: BLE001  one data set must not stop the others
        reason = _reason(error)
        log.warning("%s, %s: %s", dataset.title, model.title, reason)
        yield from (Outcome(cell, "failed", reason=reason) for cell in cells)
        return
    methods = declared("methods", Method)
    for cell in cells:
        yield outcome_of(cell, case, methods[cell.method], done, about=about, parent=bench.parent)


def outcome_of(
    cell: Cell,
    case: Case,
    method: Method,
    done: DoneCells,
    *,
    about: Mapping[str, Any],
    parent: str | None = None,
) -> Outcome:
    """Return what an earlier call found, or measure the cell; a failure is an outcome, too.

    `about` is what `made_from` says of the case.
    """
    kept = done.find(cell, about)
    if kept is not None:
        return kept
    started = time.perf_counter()
    parameters = done.parameters(cell, about)
    try:
        with done.ledger.run(KIND, parameters=parameters, parent=parent) as run:
            run.log_origins({case.vector: case.collection.origin(case.vector)})
            found = EXPERIMENTS[cell.experiment](case, method, run)
            seconds = time.perf_counter() - started
            outcome = Outcome(
                cell,
                "done",
                found.figures,
                notes=case.notes,
                seconds=seconds,
                run_id=run.id,
                extra=found.extra,
            )
            keep(run, outcome)
            return outcome
    except Exception as error:  # noqa: BLE001  one cell must not stop the others
        log.warning("%s: %s", cell, _reason(error))
        seconds = time.perf_counter() - started
        return Outcome(cell, "failed", reason=_reason(error), seconds=seconds)


def _reason(error: Exception) -> str:
    text = str(error) if isinstance(error, IntramodalError) else repr(error)
    return " ".join(text.split())
