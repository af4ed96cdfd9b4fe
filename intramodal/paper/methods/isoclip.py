"""IsoCLIP: the middle of the spectrum of the model's two projectors."""

from __future__ import annotations

from intramodal.errors import InputError
from intramodal.paper.base import Case, Method
from intramodal.projection.fit import fit_projection
from intramodal.projection.projection import Projection


def _project(case: Case) -> Projection:
    if case.model.isoclip is None:
        raise InputError(
            f"no sizes of IsoCLIP are published for {case.model.title}; leave the method or the "
            f"model out"
        )
    k_top, k_bottom = case.model.isoclip
    return fit_projection(case.encoder, method="isoclip", k_top=k_top, k_bottom=k_bottom)


DECLARED = Method(name="isoclip", title="IsoCLIP", needs_text=True, project=_project)
