"""Which cells are done: each is a run of the ledger, found again by what it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from intramodal.errors import LedgerError
from intramodal.paper.base import Cell
from intramodal.paper.experiments import Figures
from intramodal.runs.frames import json_values
from intramodal.runs.ledger import RunLedger
from intramodal.runs.records import RunRecord
from intramodal.runs.run import Run
from intramodal.types import fingerprint

CELL = "cell"
"""Name of the artefact with a cell's figures, to the last digit."""

KIND = "reproduce-cell"

State = Literal["done", "failed", "open"]


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Parameters
    ----------
    cell : Cell
    state : {"done", "failed", "open"}
    figures : mapping of str to float or None
        Fractions; None where too few images were there.
    reason : str
        Why it failed, in one sentence.
    notes : sequence of str
        What a reader must know of it, such as images that could not be read.
    seconds : float, optional
    run_id : str, optional
    is_kept : bool
        Whether it was done by an earlier call.
    extra : mapping
        What a page draws, such as histograms.
    """

    cell: Cell
    state: State
    figures: Figures = field(default_factory=dict)
    reason: str = ""
    notes: Sequence[str] = ()
    seconds: float | None = None
    run_id: str | None = None
    is_kept: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, without what a page draws."""
        parts = ("experiment", "dataset", "model", "method")
        names = ("state", "reason", "notes", "seconds", "run_id", "is_kept")
        values: dict[str, Any] = json_values(
            {
                **{name: getattr(self.cell, name) for name in parts},
                "figures": self.figures,
                **{name: getattr(self, name) for name in names},
            }
        )
        return values


@dataclass(frozen=True)
class DoneCells:
    """The cells that a ledger holds, by what they were made from.

    Parameters
    ----------
    ledger : RunLedger
    settings : mapping
        What all cells of a call share: recipe, limit, store, ...
    """

    ledger: RunLedger
    settings: Mapping[str, Any]

    def parameters(self, cell: Cell, made_from: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the run of a cell records; "key" covers all of it."""
        stated = {
            "experiment": cell.experiment,
            "dataset": cell.dataset,
            "model": cell.model,
            "method": cell.method,
            **self.settings,
            **made_from,
        }
        return {**stated, "key": fingerprint(stated)}

    def find(self, cell: Cell, made_from: Mapping[str, Any]) -> Outcome | None:
        """Return the latest complete run of a cell made from the same; None if there is none."""
        try:
            record = self._by_key.get(self.parameters(cell, made_from)["key"])
            if record is None:
                return None
            kept = json.loads(self.ledger.artefact(record.id, CELL))
        except LedgerError:  # warned of where it is written to; the cell is measured anew
            return None
        return Outcome(
            cell,
            "done",
            kept["figures"],
            notes=kept["notes"],
            seconds=record.seconds,
            run_id=record.id,
            is_kept=True,
            extra=kept["extra"],
        )

    @cached_property
    def _by_key(self) -> dict[str, RunRecord]:
        """The latest complete run of each key, as the ledger was when it was first asked."""
        latest_last = reversed(self.ledger.runs(kind=KIND, status="COMPLETE"))
        return {str(record.parameters.get("key")): record for record in latest_last}


def keep(run: Run, outcome: Outcome) -> None:
    """Record what a cell found, so that `DoneCells.find` returns the same figures."""
    kept = {"figures": outcome.figures, "notes": list(outcome.notes), "extra": outcome.extra}
    run.save_artefact(CELL, json_values(kept))
