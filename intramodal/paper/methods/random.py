"""As many random directions as PCA← keeps: what any halving does."""

from __future__ import annotations

from intramodal.paper.base import Case, Method
from intramodal.projection.controls import random_projection
from intramodal.projection.projection import Projection


def _project(case: Case) -> Projection:
    return random_projection(case.projection)


DECLARED = Method(name="random", title="Random directions", needs_text=True, project=_project)
