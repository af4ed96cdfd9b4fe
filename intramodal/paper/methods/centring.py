"""The images less their mean, in all dimensions."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.projection.controls import centring
from intramodal.projection.projection import Projection


def _project(case: Case) -> Projection:
    return centring(case.projection, case.table.unit(case.vector))


DECLARED = Method(name="centring", title="Centred images", needs_text=True, project=_project)
