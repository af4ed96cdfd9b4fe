"""The directions that PCA← discards, on their own."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.projection.controls import bottom_components
from intramodal.projection.projection import Projection


def _project(case: Case) -> Projection:
    return bottom_components(case.projection)


DECLARED = Method(
    name="discarded", title="Discarded directions", needs_text=True, project=_project
)
