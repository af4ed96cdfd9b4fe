"""Maps that saw labels are stored, verified, computed anew and rolled back as all others are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intramodal.errors import InputError, ManifestMismatchError
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill, recompute
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.ingest.backfill.verify import verify_vector
from intramodal.ingest.pipeline import ingest_vectors
from intramodal.ingest.vectors.load import vectors_of
from intramodal.ingest.vectors.ready import open_ready
from intramodal.projection.fit import fit_label_map, fit_posterior
from intramodal.projection.stored_map import StoredMap
from intramodal.store.base import Filter, Store
from intramodal.store.collection import ImageCollection
from intramodal.types import PointId
from tests.unit.ingest.backfill_kit import LABELLED, ORIGIN, D, contents, photos_in, rows

N = 60
MAPS = [fit_label_map(LABELLED), fit_posterior(LABELLED)]


@pytest.fixture(params=MAPS, ids=["label", "posterior"])
def made(request: pytest.FixtureRequest) -> StoredMap:
    found: StoredMap = request.param
    return found


def test_a_map_that_saw_labels_is_backfilled_verified_and_rolled_back(
    store: Store, made: StoredMap
) -> None:
    photos = photos_in(store)
    before = contents(photos)
    name = made.default_vector
    assert backfill(photos, made).projected == N
    assert backfill(photos, made).projected == 0
    spec = photos.info().vectors[name]
    assert (spec.size, spec.distance) == (made.dim_out, made.distance)
    origin = photos.reread() and photos.origin(name)
    assert (origin.labels, origin.distance) == (made.labels, made.distance)
    table = photos.table(["raw", name])
    expected = made.apply(table.vectors["raw"])
    if made.distance == "Cosine":
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(table.vectors[name], expected, atol=1e-5)  # float32, stored
    assert verify_vector(photos, made, n=N).stale == 0
    assert contents(photos) == before
    rollback_vector(photos, vector=name, yes=True)
    assert set(photos.info().vectors) == {"raw"}


def test_a_code_that_is_off_is_found_and_computed_anew(store: Store, made: StoredMap) -> None:
    photos = photos_in(store)
    name = made.default_vector
    backfill(photos, made)
    off = photos.table([name]).vectors[name][:1]
    off[:, 0] += 0.01
    store.update_vectors("photos", name, [photos.table([name]).ids[0]], off)
    found = verify_vector(photos, made, n=N)
    assert found.stale == 1
    assert recompute(photos, made, where=Filter(ids=found.stale_ids)).projected == 1
    assert verify_vector(photos, made, n=N).stale == 0


def test_a_map_of_another_field_does_not_go_into_the_same_vector(
    store: Store, made: StoredMap
) -> None:
    photos = photos_in(store)
    backfill(photos, made, vector="labels")
    other = replace(LABELLED, field="hue")
    fit = fit_label_map if made.method == "label" else fit_posterior
    with pytest.raises(ManifestMismatchError, match=r"of 'label' .* not by .* of 'hue'"):
        backfill(photos, fit(other), vector="labels")


def test_a_copy_ranks_codes_by_their_inner_product(store: Store, made: StoredMap) -> None:
    photos = photos_in(store)
    copy_collection(photos, made, new_collection="next")
    assert store.info("next").vectors[made.default_vector].distance == made.distance


def test_codes_are_searched_by_the_chance_of_the_same_label(store: Store) -> None:
    photos, made = photos_in(store), MAPS[1]
    backfill(photos, made)
    Q = made.apply(rows(range(500, 503)))
    hits = photos.search(Q, using=made.default_vector, k=5, exact=True)
    table = photos.table([made.default_vector])
    products = Q @ table.vectors[made.default_vector].T
    np.testing.assert_allclose(
        np.array(hits.scores), -np.sort(-products, axis=1)[:, :5], atol=1e-6
    )
    assert made.dim_in == D


KNOWN = fit_posterior(LABELLED, known=True)


def test_a_known_label_is_certain_and_is_kept_true_by_a_recomputation(store: Store) -> None:
    photos = photos_in(store)
    photos.store.set_payload("photos", [0, 1], {"label": None})
    photos.store.set_payload("photos", [2], {"label": "never seen"})
    backfill(photos, KNOWN)
    name = KNOWN.default_vector
    assert name == "posterior_label"

    def codes() -> dict[PointId, np.ndarray]:
        table = photos.table(["raw", name])
        chances = MAPS[1].apply(table.vectors["raw"])
        found = dict(zip(table.ids, table.vectors[name], strict=True))
        for row, point in enumerate(table.ids):
            if point in (0, 1, 2):  # as if nothing were known
                np.testing.assert_allclose(found[point], chances[row], atol=1e-5)
        return found

    made = codes()
    for point in range(3, N):
        np.testing.assert_array_equal(made[point][:3], np.eye(3)[point % 3])
    assert verify_vector(photos, KNOWN, n=N).stale == 0
    photos.store.set_payload("photos", [9], {"label": "l2"})
    assert verify_vector(photos, KNOWN, n=N).stale_ids == [9]
    recompute(photos, KNOWN, where=Filter(equals={"label": ["l2"]}))
    assert verify_vector(photos, KNOWN, n=N).stale == 0
    np.testing.assert_array_equal(codes()[9][:3], [0, 0, 1])


def test_codes_that_hold_known_labels_are_another_map_and_judge_nothing(store: Store) -> None:
    assert KNOWN.fingerprint != MAPS[1].fingerprint
    photos = photos_in(store)
    backfill(photos, KNOWN)
    with pytest.raises(InputError, match="holds labels of 'label' themselves"):
        evaluate_retrieval(photos, vectors=["raw", KNOWN.default_vector], fields=["label"])


def test_an_ingest_of_vectors_writes_known_labels(store: Store, tmp_path: Path) -> None:
    X = rows(range(700, 706))
    np.save(tmp_path / "X.npy", X)
    lines = ["id,label", *(f"{i},l{i % 3}" for i in range(5)), "5,"]
    (tmp_path / "meta.csv").write_text("\n".join(lines))
    ready = open_ready(tmp_path / "X.npy", table=tmp_path / "meta.csv", dataset="shop")
    vectors = vectors_of(ready, ORIGIN, "raw", KNOWN)
    shop = ImageCollection.ensure(store, "shop", vectors)
    ingest_vectors(ready, shop, projection=KNOWN)
    table = shop.table(["raw", KNOWN.default_vector])
    codes = dict(zip(table.ids, table.vectors[KNOWN.default_vector], strict=True))
    for point in range(5):
        np.testing.assert_array_equal(codes[point][:3], np.eye(3)[point % 3])
    assert codes[5][:3].max() < 1
    assert ingest_vectors(ready, shop, projection=KNOWN).written == 0
