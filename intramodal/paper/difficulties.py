"""Figures of a case of revisited Oxford or Paris."""

from __future__ import annotations

from intramodal.errors import InputError
from intramodal.evaluation.resampling import NO_INTERVAL, Resampling
from intramodal.evaluation.revisited import evaluate_revisited
from intramodal.ground_truth import GroundTruth
from intramodal.paper.base import Case
from intramodal.runs.run import Run
from intramodal.types import VectorTable

HEADLINE = "medium"
"""The difficulty whose mAP papers print."""


def truth_of(case: Case) -> GroundTruth:
    """Return what a case is judged by."""
    truth = case.dataset.truth(case.root, case.limit) if case.root else None
    if truth is None:
        raise InputError(f"{case.dataset.name} has no ground truth of the revisited protocol")
    return truth


def by_difficulty(case: Case, table: VectorTable, vector: str, run: Run) -> dict[str, float]:
    """Return the mAP of medium as "mAP", and of easy and hard as "mAP easy" and "mAP hard".

    `table` has the images of the case, with a vector by which they are ranked.
    """
    found = evaluate_revisited(
        table,
        ground_truth=truth_of(case),
        vectors=[vector],
        name_field="name",
        resampling=Resampling(NO_INTERVAL),
        run=run,
    )
    return {"mAP" if r.field == HEADLINE else f"mAP {r.field}": r.map for r in found}
