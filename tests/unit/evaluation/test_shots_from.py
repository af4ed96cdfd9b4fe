"""Shots of another vector than the tested images: one augmented view, as few-shot papers have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError, MismatchError
from intramodal.evaluation.fewshot import evaluate_fewshot
from intramodal.evaluation.fewshot_text import BY_IMAGES, METHODS, evaluate_fewshot_text
from intramodal.evaluation.rivals.class_texts import ClassTexts
from intramodal.projection.projection import Projection
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import AUGMENTED_VIEW, VectorOrigin
from intramodal.store.open import open_store
from intramodal.store.origins import projected_origin
from intramodal.types import VectorTable, unit_rows
from tests.unit.evaluation.test_protocols import MADE_BY, SHOTS, D, K, half, images

HOW: dict[str, Any] = {"fields": ["class"], "sides": "split", "shots": SHOTS}
FROM = {"raw": "raw_augmented", "pca": "pca_augmented"}


@pytest.fixture
def projection(rng: np.random.Generator) -> Projection:
    return half(rng)


@pytest.fixture
def table(rng: np.random.Generator, projection: Projection) -> VectorTable:
    """Return images, their views and the projections of both, unit rows as stores have them."""
    plain = images(rng)
    X = plain.vectors["raw"]
    view = unit_rows(X + 0.6 * rng.normal(size=X.shape) / np.sqrt(D))
    vectors = {"raw": X, "raw_augmented": view}
    vectors |= {"pca": unit_rows(projection.apply(X))}
    return replace(plain, vectors=vectors | {"pca_augmented": unit_rows(projection.apply(view))})


def with_views_as_training_images(table: VectorTable, vectors: tuple[str, ...]) -> VectorTable:
    """Return the table whose training images, of which all shots come, are the views."""
    is_train = np.array(table.payload["split"]) == "train"
    found = {
        name: np.where(is_train[:, None], table.vectors[FROM[name]], table.vectors[name])
        for name in vectors
    }
    return replace(table, vectors=found)


@pytest.mark.parametrize("protocol", ["nested", "paper"])
def test_shots_are_views_and_tested_images_their_own(table: VectorTable, protocol: str) -> None:
    how: dict[str, Any] = {**HOW, "protocol": protocol, "vectors": ["raw", "pca"]}
    found = evaluate_fewshot(table, **how, shots_from=FROM)
    expected = evaluate_fewshot(with_views_as_training_images(table, ("raw", "pca")), **how)
    clean = evaluate_fewshot(table, **how)
    for a, b, c in zip(found, expected, clean, strict=True):
        np.testing.assert_array_equal(a.accuracy, b.accuracy)
        np.testing.assert_array_equal(a.n_correct, b.n_correct)
        assert not np.array_equal(a.n_correct, c.n_correct)
    assert found.to_dict()["shots_from"] == FROM
    assert clean.to_dict()["shots_from"] == {}


@pytest.mark.parametrize("preset", ["imagenet", "paper"])
def test_every_method_with_text_takes_its_shots_from_there(
    rng: np.random.Generator, table: VectorTable, projection: Projection, preset: str
) -> None:
    texts = ClassTexts.from_arrays(list("abcde"), rng.normal(size=(K, D)).astype("f4"))
    methods = [*(m for m in METHODS if m != "tip-x"), "prototype", "lda"]
    if preset == "paper":
        methods = list(BY_IMAGES)
    how: dict[str, Any] = {**HOW, "texts": texts, "methods": methods, "by": ["raw", "pca"]}
    how |= {"preset": preset, "validation": 0}
    how |= {"projections": [projection]} if preset == "paper" else {"episodes": 4}
    found = evaluate_fewshot_text(table, **how, shots_from=FROM)
    expected = evaluate_fewshot_text(with_views_as_training_images(table, ("raw", "pca")), **how)
    clean = evaluate_fewshot_text(table, **how)
    for a, b, c in zip(found, expected, clean, strict=True):
        np.testing.assert_array_equal(a.n_correct, b.n_correct)
        if "zero-shot" not in a.classifier:
            assert not np.array_equal(a.n_correct, c.n_correct), a.classifier
    assert found.to_dict()["shots_from"] == FROM


@pytest.fixture
def stored(table: VectorTable, projection: Projection) -> Iterator[ImageCollection]:
    view = VectorOrigin(MADE_BY.encoder + AUGMENTED_VIEW, "ab12", method="augmented")
    origins = {"raw": MADE_BY, "raw_augmented": view}
    origins |= {"pca": projected_origin(projection, MADE_BY, "raw")}
    origins |= {"pca_augmented": projected_origin(projection, view, "raw_augmented")}
    with open_store(":memory:") as store:
        sizes = {name: (table.vectors[name].shape[1], made) for name, made in origins.items()}
        photos = ImageCollection.create(store, "photos", sizes)
        keys = list(table.payload)
        columns = zip(*table.payload.values(), strict=True)
        photos.insert(table.ids, table.vectors, [dict(zip(keys, c, strict=True)) for c in columns])
        yield photos


def test_views_in_a_collection_are_projected_again_for_the_papers_protocol(
    stored: ImageCollection, table: VectorTable, projection: Projection
) -> None:
    how: dict[str, Any] = {**HOW, "protocol": "paper", "vectors": ["pca"]}
    pca = {"pca": "pca_augmented"}
    found = evaluate_fewshot(stored, **how, shots_from=pca, projections=[projection])
    sized = {v: projection.apply(table.vectors[of]) for v, of in
             (("pca", "raw"), ("pca_augmented", "raw_augmented"))}  # fmt: skip
    expected = evaluate_fewshot(replace(table, vectors=sized), **how, shots_from=pca)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.n_correct, b.n_correct)


def test_shots_of_another_space_are_refused(stored: ImageCollection, table: VectorTable) -> None:
    with pytest.raises(MismatchError, match=r"'raw', made by open_clip.* cannot come from 'pca'"):
        evaluate_fewshot(stored, **HOW, vectors=["raw"], shots_from={"raw": "pca"})
    with pytest.raises(
        MismatchError, match="from 'pca' with 12 dimensions, and the tested vector"
    ):
        evaluate_fewshot(table, **HOW, vectors=["raw"], shots_from={"raw": "pca"})
    with pytest.raises(InputError, match="shots of 'pca' come from, and only 'raw' are compared"):
        evaluate_fewshot(table, **HOW, vectors=["raw"], shots_from=FROM)
