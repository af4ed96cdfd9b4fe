"""OTI: each query image is replaced by a pseudo-word that is optimised to match it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from intramodal.evaluation.rivals.oti import InversionMap, Invert, evaluate_inversion
from intramodal.paper.base import Case, Method
from intramodal.paper.difficulties import by_difficulty, truth_of
from intramodal.runs.run import Run
from intramodal.types import unit_rows


def _retrieve(case: Case, run: Run) -> Mapping[str, float]:
    inversion = InversionMap(case.encoder)
    kept = case.work / f"oti-{case.collection.name}.safetensors"
    kept.parent.mkdir(parents=True, exist_ok=True)
    if case.dataset.protocol == "revisited":
        return _revisited(case, inversion.kept_in(kept), run)
    found = evaluate_inversion(
        case.table,
        inversion,
        vector=case.vector,
        vectors=(),
        fields=case.dataset.fields,
        sides=case.dataset.sides,
        min_class_size=1,
        invert=inversion.kept_in(kept),
        run=run,
    )
    return {case.dataset.figure("mAP", one.field): one.map for one in found if one.vector == "oti"}


def _revisited(case: Case, invert: Invert, run: Run) -> Mapping[str, float]:
    """Return the figures with the texts of the queries in place of their images."""
    queries = set(truth_of(case).queries)
    names = case.table.payload["name"]
    rows = np.array([row for row, name in enumerate(names) if name in queries], dtype=np.intp)
    X = case.table.vectors[case.vector]
    ids = [case.table.ids[row] for row in rows]
    asking = case.table.unit(case.vector).copy()
    asking[rows] = unit_rows(invert(ids, X[rows]).texts)
    return by_difficulty(case, replace(case.table, vectors={"oti": asking}), "oti", run)


DECLARED = Method(name="oti", title="OTI", symbol="⟨T, I⟩", needs_text=True, retrieve=_retrieve)
