"""The first coordinates, as many as PCA← keeps."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.projection.controls import truncation
from intramodal.projection.projection import Projection


def _project(case: Case) -> Projection:
    return truncation(case.projection)


DECLARED = Method(name="truncation", title="First coordinates", needs_text=True, project=_project)
