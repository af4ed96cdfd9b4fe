"""IsoCLIP: the middle of the spectrum of the model's two projectors."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.projection.fit import fit_projection
from intramodal.types import Floats


def _vectors(case: Case) -> Floats:
    projection = fit_projection(case.encoder, method="isoclip")
    return projection.apply(case.table.vectors[case.vector])


DECLARED = Method(name="isoclip", title="IsoCLIP", needs_text=True, vectors=_vectors)
