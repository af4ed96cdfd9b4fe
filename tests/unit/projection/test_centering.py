"""A map that subtracts the mean of a collection alone, or before directions of texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError, ManifestMismatchError
from intramodal.fit_rows import FitRows
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.ingest.backfill.verify import verify_vector
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.fit import (
    Center,
    LabelledRows,
    fit_centering,
    fit_label_map,
    fit_projection,
)
from intramodal.projection.projection import Projection
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.store.origins import center_of
from intramodal.types import declared_fingerprint, unit_rows

D, MODEL = 12, "hf:our/clip"
MADE_BY = (MODEL, declared_fingerprint(MODEL))
FACTS = {"collection": "photos", "vector": "raw", "n": 50}


@pytest.fixture
def X(rng: np.random.Generator) -> Any:
    return (rng.normal(size=(50, D)) + 1).astype(np.float32)


@pytest.fixture
def center(X: Any) -> Center:
    return Center(unit_rows(X).mean(axis=0), MADE_BY, MODEL, FACTS)


def test_the_mean_is_subtracted_from_unit_vectors_and_all_directions_stay(
    X: Any, center: Center
) -> None:
    made = fit_centering(center)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(made.apply(3 * X), unit - unit.mean(axis=0), atol=1e-6)
    assert (made.dim_out, made.default_vector, made.distance) == (D, "centered", "Cosine")
    assert made.recipe["center"] == FACTS


def test_it_is_stored_verified_and_taken_back_as_every_map(X: Any) -> None:
    with open_store(":memory:") as store:
        photos = ImageCollection.create(store, "photos", {"raw": (D, VectorOrigin(*MADE_BY))})
        photos.write(list(range(50)), {"raw": X}, [{} for _ in X])
        made = fit_centering(center_of(photos, "raw"))
        assert backfill(photos, made).projected == 50
        assert verify_vector(photos, made, n=50).stale == 0
        stored = photos.table(["centered"]).vectors["centered"].astype(np.float64)
        assert np.abs(made.apply(X).mean(axis=0)).max() < 1e-6
        np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1, atol=1e-6)
        rollback_vector(photos, vector="centered", yes=True)
        assert set(photos.info().vectors) == {"raw"}


def test_with_a_projection_it_is_the_centred_one(
    center: Center, rng: np.random.Generator, X: Any
) -> None:
    T, names = rng.normal(size=(30, D)), AnchorSet(tuple(f"n{i}" for i in range(30)))
    how: Any = {"made_by": MODEL, "anchors": names, "components": 5}
    plain, wanted = fit_projection(T, **how), fit_projection(T, **how, center=center)
    made = fit_centering(center, text=plain)
    assert made.fingerprint == wanted.fingerprint
    assert made.default_vector == wanted.default_vector
    np.testing.assert_array_equal(made.apply(X), wanted.apply(X))


def test_with_texts_half_of_the_dimensions_are_kept(center: Center) -> None:
    T = np.random.default_rng(1).normal(size=(30, D)).astype(np.float32)
    made = fit_centering(center, text=T)
    assert (made.dim_out, made.default_vector) == (D // 2, "pca_centered")
    names = AnchorSet(tuple(f"n{i}" for i in range(30)))
    wanted = fit_projection(T, made_by=MODEL, anchors=names, center=center)
    np.testing.assert_allclose(made.matrix, wanted.matrix, atol=1e-6)


def test_texts_are_refused(center: Center) -> None:
    with pytest.raises(InputError, match="'centered' subtracts the mean"):
        fit_centering(center).apply_to_texts(np.ones((2, D)))


def test_what_cannot_be_is_refused(center: Center, X: Any) -> None:
    half = Projection(np.eye(D, 4), "pca", *MADE_BY)
    rows = LabelledRows(X, [f"l{i % 2}" for i in range(50)], "hue", FitRows(share=0.5), MADE_BY)
    for text, message in (
        (fit_centering(center), "keeps all directions, and none of texts"),
        (fit_centering(center, text=half), "subtracts a mean already"),
        (fit_label_map(rows), "has seen labels itself"),
        (np.ones((5, D + 1)), "the texts have shape"),
    ):
        with pytest.raises(InputError, match=message):
            fit_centering(center, text=text)
    with pytest.raises(ManifestMismatchError, match="fit one for this model"):
        fit_centering(center, text=replace(half, encoder="other", encoder_fingerprint="x"))
    with pytest.raises(InputError, match="keeps all directions, and none of texts"):
        fit_label_map(rows, text=fit_centering(center))
    unknown = replace(center, made_by=None)
    with pytest.raises(InputError, match="nothing says which model made 'raw' of 'photos'"):
        fit_centering(unknown)
    assert fit_centering(unknown, text=half).encoder == MODEL
