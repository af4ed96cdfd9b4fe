"""What the cells of a table share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError
from intramodal.fit_rows import FitRows, LabelFit
from intramodal.paper.base import models_of
from intramodal.paper.workbench import Bench
from intramodal.projection.projection import Projection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import declared_fingerprint


def test_a_map_that_has_seen_labels_is_not_taken_for_pca(tmp_path: Path) -> None:
    (model,) = models_of(["slip_b16=slip:slip_base_100ep.pt"])
    made_by = (model.encoder, declared_fingerprint(model.encoder))
    seen = LabelFit("kind", FitRows(share=0.5), {"a": 2, "b": 2})
    made = Projection(np.eye(4, 2), "label", *made_by, recipe={"labels": seen.to_dict()})
    nothing: Any = None  # no store or ledger is needed to refuse it
    bench = Bench(nothing, nothing, None, tmp_path, "paper-text", fitted=made)
    with pytest.raises(InputError, match="has seen labels itself"):
        bench.projection(model, VectorOrigin(*made_by))
