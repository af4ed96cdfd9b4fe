from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from intramodal.errors import InputError
from intramodal.projection.projection import Projection
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import (
    own_vector,
    projected_vector,
    searched_vectors,
    source_and_projection,
    vector_pair,
)
from intramodal.store.manifest import AUGMENTED, TEXT_INVERSION, Manifest, VectorOrigin
from intramodal.store.open import open_store
from intramodal.types import VectorTable

CLIP = VectorOrigin("clip", "3f9a")


def made_of(source: str, method: str = "pca", projection: str = "0c1d") -> VectorOrigin:
    return VectorOrigin("clip", "3f9a", projection=projection, source=source, method=method)


IMAGE_PCA = {"image": CLIP, "image_pca": made_of("image")}


def collection(declared: Mapping[str, VectorOrigin], *undeclared: str) -> ImageCollection:
    """Return a collection of which the manifest knows only some vectors."""
    sizes = {name: (4, declared.get(name, CLIP)) for name in (*declared, *undeclared)}
    found = ImageCollection.create(open_store(":memory:"), "shop", sizes)
    found.manifest = Manifest(declared)
    return found


@pytest.mark.parametrize(
    ("declared", "undeclared", "expected"),
    [
        (IMAGE_PCA, (), ["image", "image_pca"]),
        ({"image": CLIP}, (), ["image"]),
        ({}, ("image",), ["image"]),  # what a program made that nobody has declared yet
        (IMAGE_PCA, ("text",), ["image", "image_pca"]),
        ({"": CLIP, "pca": made_of("")}, (), ["", "pca"]),
        # Views and texts that stand for images are no vector of the images.
        ({**IMAGE_PCA, "seen": VectorOrigin("c", "f", method=AUGMENTED)}, (), [*IMAGE_PCA]),
        ({**IMAGE_PCA, "seen_pca": made_of("seen")}, (), [*IMAGE_PCA]),
        ({**IMAGE_PCA, "texts": made_of("image", TEXT_INVERSION)}, (), [*IMAGE_PCA]),
        # Where several can be meant, those that this package names.
        ({}, ("raw", "pca"), ["raw", "pca"]),
        ({"raw": CLIP, "other": CLIP}, (), ["raw"]),
        ({"raw": CLIP, "pca": CLIP}, (), ["raw", "pca"]),  # declared as another model's
        ({"raw": CLIP, "pca": made_of("raw"), "iso": made_of("raw")}, (), ["raw", "pca"]),
    ],
)
def test_the_encoder_s_own_vector_and_its_projection_are_meant(
    declared: Mapping[str, VectorOrigin], undeclared: tuple[str, ...], expected: list[str]
) -> None:
    found = collection(declared, *undeclared)
    assert searched_vectors(found) == expected
    assert own_vector(found) == expected[0]
    assert projected_vector(found) == (expected[1] if len(expected) > 1 else None)


def test_a_vector_that_is_named_is_taken() -> None:
    found = collection(IMAGE_PCA)
    assert own_vector(found, "x") == "x"
    assert searched_vectors(found, ["x"]) == ["x"]
    assert vector_pair(found, "x", "y") == ("x", "y")
    assert vector_pair(found, b="y") == ("image", "y")


def test_what_is_left_open_is_one_sentence_with_what_there_is() -> None:
    with pytest.raises(InputError, match="'shop' has the vectors 'a', 'b'; name the one to take"):
        own_vector(collection({"a": CLIP, "b": CLIP}))
    with pytest.raises(InputError, match="several projections of 'a': 'x', 'y'; name the one"):
        searched_vectors(collection({"a": CLIP, "x": made_of("a"), "y": made_of("a")}))
    with pytest.raises(InputError, match="has the vector 'a' and no projection of 'a'"):
        vector_pair(collection({"a": CLIP}))


def test_a_table_has_names_only() -> None:
    X = np.eye(3, dtype=np.float32)
    assert vector_pair(VectorTable([1, 2, 3], {"pca": X, "raw": X})) == ("raw", "pca")
    assert searched_vectors(VectorTable([1, 2, 3], {"clip": X})) == ["clip"]
    with pytest.raises(InputError, match="the table has the vectors 'a', 'b'"):
        own_vector(VectorTable([1, 2, 3], {"a": X, "b": X}))


def test_a_backfill_goes_on_with_the_vector_that_its_projection_fills() -> None:
    projection = Projection(np.eye(4, 2, dtype=np.float32), "pca", "clip", "3f9a")
    other = made_of("image", projection=projection.fingerprint)
    assert source_and_projection(collection({"image": CLIP}), projection) == ("image", "pca")
    found = collection({"image": CLIP, "mine": other, "pca": made_of("image")})
    assert source_and_projection(found, projection) == ("image", "mine")
    assert source_and_projection(found, projection, vector="new") == ("image", "new")
    assert source_and_projection(found, projection, "mine") == ("mine", "pca")
