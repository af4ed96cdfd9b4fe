"""Two first ingests at once: one makes the collection, the other joins it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from intramodal.errors import ManifestMismatchError
from intramodal.ingest.pipeline import images_collection, vectors_collection
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from tests.plain_encoder import PlainEncoder

DECLARED = {"raw": (4, VectorOrigin("some model", "declared:some model"))}


def from_pictures(store: Store) -> ImageCollection:
    return images_collection(store, "new", encoder=PlainEncoder())


def from_vectors(store: Store) -> ImageCollection:
    return vectors_collection(store, "new", DECLARED)


def ensured(store: Store) -> ImageCollection:
    return ImageCollection.ensure(store, "new", DECLARED)


def another_is_faster(
    store: Store, monkeypatch: pytest.MonkeyPatch, make: Callable[[Store], object]
) -> None:
    """Let another process make the collection right after this one has seen that there is none."""
    exists = store.exists

    def looked(name: str) -> bool:
        monkeypatch.setattr(store, "exists", exists)
        found = exists(name)
        make(store)
        return found

    monkeypatch.setattr(store, "exists", looked)


@pytest.mark.parametrize("begin", [from_pictures, from_vectors, ensured])
def test_the_slower_one_joins_the_collection_that_the_other_has_made(
    store: Store, begin: Callable[[Store], ImageCollection], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ImageCollection] = []

    def first(of: Store) -> None:
        made.append(begin(of))
        size = made[0].vector_spec("raw").size
        made[0].write([1], {"raw": np.ones((1, size), np.float32)}, [{}])

    another_is_faster(store, monkeypatch, first)
    joined = begin(store)
    assert joined.manifest == made[0].manifest
    assert joined.count() == 1


def test_the_slower_one_is_refused_where_the_other_has_another_model(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_is_faster(store, monkeypatch, from_pictures)
    with pytest.raises(ManifestMismatchError, match="some model"):
        ensured(store)
