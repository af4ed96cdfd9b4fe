"""IsoCLIP: the middle of the spectrum of the model's two projectors."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.projection.fit import fit_projection
from intramodal.projection.projection import Projection


def _project(case: Case) -> Projection:
    return fit_projection(case.encoder, method="isoclip")


DECLARED = Method(name="isoclip", title="IsoCLIP", needs_text=True, project=_project)
