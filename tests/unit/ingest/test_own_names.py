"""Images into a collection whose vectors another program has named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from intramodal.ingest.augmentation import augmented
from intramodal.ingest.pipeline import images_collection, ingest_images
from intramodal.store.base import Filter, Store
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from tests.plain_encoder import PlainEncoder, plain_projection
from tests.unit.ingest.test_augmentation import N, records

NAMES = {"image": "raw", "half": "pca"}
"""The other program's, and ours in a new collection."""


def adopted(store: Store, encoder: PlainEncoder) -> ImageCollection:
    """Return a collection of which somebody has declared the model, with a backfill of it."""
    declared = VectorOrigin("plain", "declared:plain")
    projection = plain_projection(encoder)
    made = replace(declared, projection=projection.fingerprint, source="image")
    vectors = {"image": (encoder.dim, declared), "half": (projection.dim_out, made)}
    return ImageCollection.create(store, "adopted", vectors)


def test_they_fill_its_vectors_as_those_of_a_new_collection(store: Store) -> None:
    encoder = PlainEncoder()
    projection = plain_projection(encoder)
    adopted(store, encoder)
    found = {}
    for name in ("adopted", "new"):
        how = {"encoder": encoder, "projection": projection, "augment": True}
        photos = images_collection(store, name, **how)  # type: ignore[arg-type]
        done = ingest_images(records(), photos, dataset="photos", **how)  # type: ignore[arg-type]
        assert (done.written, done.failed) == (N, 0)
        found[name] = ImageCollection.open(store, name).table([*photos.vectors])
    assert found["adopted"].ids == found["new"].ids
    names = NAMES | {augmented(name): augmented(ours) for name, ours in NAMES.items()}
    assert set(found["adopted"].vectors) == set(names)
    for name, ours in names.items():
        X, expected = found["adopted"].vectors[name], found["new"].vectors[ours]
        np.testing.assert_array_equal(X, expected)


def test_again_they_encode_nothing_and_project_what_lacks_its_projection(store: Store) -> None:
    encoder = PlainEncoder()
    how = {"encoder": encoder, "projection": plain_projection(encoder)}
    adopted(store, encoder)
    photos = images_collection(store, "adopted", **how)  # type: ignore[arg-type]
    ingest_images(records(), photos, **how)  # type: ignore[arg-type]
    before, origin = photos.table(["half"]).vectors["half"], photos.origin("half")
    photos.forget("half")
    photos.add_vector("half", before.shape[1], origin)
    again = ingest_images(records(), photos, **how)  # type: ignore[arg-type]
    assert (again.projected, again.written, encoder.n_encoded) == (N, 0, N)
    assert ingest_images(records(), photos, **how).skipped == N  # type: ignore[arg-type]
    assert photos.count(Filter(has_vector="half")) == N
    np.testing.assert_allclose(photos.table(["half"]).vectors["half"], before, atol=1e-6)
