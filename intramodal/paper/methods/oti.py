"""OTI: each query image is replaced by a pseudo-word that is optimised to match it."""

from __future__ import annotations

from collections.abc import Mapping

from intramodal.evaluation.rivals.oti import InversionMap, evaluate_inversion
from intramodal.paper.base import Case, Method
from intramodal.runs.run import Run


def _retrieve(case: Case, run: Run) -> Mapping[str, float]:
    inversion = InversionMap(case.encoder)
    kept = case.work / f"oti-{case.collection.name}.safetensors"
    kept.parent.mkdir(parents=True, exist_ok=True)
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


DECLARED = Method(name="oti", title="OTI", symbol="⟨T, I⟩", needs_text=True, retrieve=_retrieve)
