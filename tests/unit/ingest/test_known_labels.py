"""Codes that hold the label of their point stay true when an ingest changes it, or are found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.errors import StoreError
from intramodal.fit_rows import FitRows
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.verify import verify_vector
from intramodal.ingest.pipeline import images_collection, ingest_images, ingest_vectors
from intramodal.ingest.vectors.load import vectors_of
from intramodal.ingest.vectors.ready import open_ready
from intramodal.projection.fit import LabelledRows, fit_posterior
from intramodal.projection.posterior import PosteriorMap
from intramodal.projection.projection import Projection
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, ImageRecord, PointId, point_id
from tests.plain_encoder import DIM, PlainEncoder
from tests.unit.ingest.backfill_kit import ORIGIN, D, rows
from tests.unit.ingest.pipeline_kit import counts, png, record

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

N, K = 24, 3
CODES = "posterior_label"


def known_map(made_by: tuple[str, str], dim: int, field: str = "label") -> PosteriorMap:
    """Return codes of three classes, l0 to l2, that are certain of the labels they know."""
    rng = np.random.default_rng(2)
    y = np.arange(60) % K
    X = rng.normal(size=(60, dim)) + 0.5 * rng.normal(size=(K, dim))[y]
    labelled = LabelledRows(X, [f"l{code}" for code in y], field, FitRows(share=0.5), made_by)
    return fit_posterior(labelled, known=True)


@pytest.fixture
def codes(encoder: PlainEncoder) -> PosteriorMap:
    return known_map((encoder.name, encoder.fingerprint), DIM)


def relabelled(n: int, label: str | None, *, shade: int | None = None) -> ImageRecord:
    """Return image `n` with another label, and with other pixels if there is a `shade`."""
    made = replace(record(n), payload={"label": label})
    return made if shade is None else replace(made, read=lambda: png(shade))


def by_path(collection: ImageCollection, vector: str = CODES) -> dict[str, Floats]:
    table = collection.table([vector], payload=["path"])
    return dict(zip(table.payload["path"], table.vectors[vector], strict=True))


def chances(collection: ImageCollection, n: int, vector: str = CODES) -> list[float]:
    """Return the chances of image `n`'s classes."""
    return [float(value) for value in by_path(collection, vector)[f"{n:05}.png"][:K]]


def filled(store: Store, encoder: PlainEncoder, made: Any, **views: Any) -> ImageCollection:
    """Return a collection of labelled images with what a map makes of them."""
    photos = images_collection(store, "photos", encoder=encoder, projection=made, **views)
    source = [record(n) for n in range(N)]
    ingest_images(source, photos, encoder=encoder, projection=made, **views)
    return photos


def is_complete(photos: ImageCollection) -> bool:
    photos.reread()
    return photos.origin(CODES).is_complete


def n_stale(photos: ImageCollection, made: PosteriorMap) -> int:
    return verify_vector(photos, made, n=1000).stale


def test_an_ingest_with_the_map_writes_the_codes_of_new_labels(
    store: Store, encoder: PlainEncoder, codes: PosteriorMap
) -> None:
    photos = filled(store, encoder, codes)
    assert chances(photos, 4) == [0, 1, 0]
    source = [record(n) for n in range(N)]
    source[4], source[5], source[6] = relabelled(4, "l2"), relabelled(5, None), record(6, shelf=1)
    before = by_path(photos)
    found = ingest_images(source, photos, encoder=encoder, projection=codes)
    assert counts(found) == (0, N - 3, 3, 0, 0)
    assert (found.stale, found.notes) == ({}, [])
    assert chances(photos, 4) == [0, 0, 1]
    assert 0 < max(chances(photos, 5)) < 1
    after = by_path(photos)
    assert all((after[path] == before[path]).all() for path in before if path[:5] > "00005")
    assert n_stale(photos, codes) == 0
    assert is_complete(photos)


def test_codes_of_images_with_other_pixels_keep_labels_that_stay(
    store: Store, encoder: PlainEncoder, codes: PosteriorMap
) -> None:
    photos = filled(store, encoder, codes)
    source = [relabelled(4, "l1", shade=500), relabelled(5, "l0", shade=501)]
    assert ingest_images(source, photos, encoder=encoder, projection=codes).written == 2
    assert (chances(photos, 4), chances(photos, 5)) == ([0, 1, 0], [1, 0, 0])
    assert n_stale(photos, codes) == 0


def test_codes_that_were_lacking_know_labels_that_stay(
    store: Store, encoder: PlainEncoder, codes: PosteriorMap
) -> None:
    photos = filled(store, encoder, None)
    backfill(photos, codes, only=[point_id("photos", "00000.png")])
    source = [record(n) for n in range(N)]
    found = ingest_images(source, photos, encoder=encoder, projection=codes)
    assert found.projected == N - 1
    assert chances(photos, 4) == [0, 1, 0]
    assert n_stale(photos, codes) == 0


def test_codes_of_augmented_views_follow_their_label(
    store: Store, encoder: PlainEncoder, codes: PosteriorMap
) -> None:
    photos = filled(store, encoder, codes, augment=True)
    source = [relabelled(4, "l2")]
    ingest_images(source, photos, encoder=encoder, projection=codes, augment=True)
    for vector in (CODES, f"{CODES}_augmented"):
        assert chances(photos, 4, vector) == [0, 0, 1]


class NoPayload:
    """A store whose writes of payload fail."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def set_payload(self, *_: Any, **__: Any) -> None:
        raise StoreError("the disk is full")


def test_a_code_is_written_before_its_label_so_that_the_next_run_does_both(
    store: Store, encoder: PlainEncoder, codes: PosteriorMap
) -> None:
    photos = filled(store, encoder, codes)
    broken: Any = ImageCollection(NoPayload(store), "photos", photos.manifest)  # type: ignore[arg-type]
    how: Any = {"encoder": encoder, "projection": codes}
    with pytest.raises(StoreError, match="the disk is full"):
        ingest_images([relabelled(4, "l2")], broken, **how)
    assert chances(photos, 4) == [0, 0, 1]
    assert ingest_images([relabelled(4, "l2")], photos, **how).updated == 1
    assert n_stale(photos, codes) == 0


@pytest.fixture
def both(
    store: Store, encoder: PlainEncoder, codes: PosteriorMap, projection: Projection
) -> ImageCollection:
    """Return a collection with `pca` and the codes, of which the next ingest knows one alone."""
    photos = filled(store, encoder, projection)
    backfill(photos, codes)
    return photos


def test_an_ingest_with_another_map_says_which_codes_are_stale_and_a_backfill_mends_them(
    both: ImageCollection, encoder: PlainEncoder, codes: PosteriorMap, projection: Projection
) -> None:
    before = by_path(both)
    source = [record(n) for n in range(N)]
    source[4], source[5] = relabelled(4, "l2"), relabelled(5, None)
    source[6], source[7] = relabelled(6, "l1", shade=500), record(7, shelf=1)
    found = ingest_images(source, both, encoder=encoder, projection=projection)
    assert found.stale == {CODES: 3}
    assert found.notes[-1].startswith(
        "3 points got another 'label', and their codes in 'posterior_label' still hold the old one"
    )
    assert not is_complete(both)
    done = backfill(both, codes)
    assert (done.projected, done.skipped) == (3, N - 3)
    assert (chances(both, 4), chances(both, 6)) == ([0, 0, 1], [0, 1, 0])
    assert n_stale(both, codes) == 0
    after = by_path(both)
    same = [path for path in before if (before[path] == after[path]).all()]
    assert len(same) == N - 3
    assert is_complete(both)
    assert backfill(both, codes).projected == 0


def test_an_ingest_that_changes_no_label_leaves_the_codes_complete(
    both: ImageCollection, encoder: PlainEncoder, projection: Projection
) -> None:
    found = ingest_images([record(7, shelf=1)], both, encoder=encoder, projection=projection)
    assert (found.updated, found.stale) == (1, {})
    assert is_complete(both)


def test_codes_are_called_incomplete_before_the_first_label_changes(
    both: ImageCollection, store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    broken: Any = ImageCollection(NoPayload(store), "photos", both.manifest)  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        ingest_images([relabelled(4, "l2")], broken, encoder=encoder, projection=projection)
    assert not is_complete(both)


# Ready vectors

TABLE = known_map(("test", "ab"), D)


def table_of(folder: Path, labels: list[str] | None, *, shelf: int = 0) -> Any:
    """Return six ready vectors with these labels, or with none."""
    np.save(folder / "X.npy", rows(range(6)))
    head = ["id", "shelf"] if labels is None else ["id", "shelf", "label"]
    lines = [[str(n), str(shelf), *([] if labels is None else [labels[n]])] for n in range(6)]
    text = "\n".join(",".join(line) for line in [head, *lines])
    (folder / "meta.csv").write_text(text)
    return open_ready(folder / "X.npy", table=folder / "meta.csv", dataset="shop")


LABELS = [f"l{n % K}" for n in range(6)]


def loaded(store: Store, ready: Any, made: Any) -> ImageCollection:
    shop = ImageCollection.ensure(store, "shop", vectors_of(ready, ORIGIN, "raw", made))
    ingest_vectors(ready, shop, projection=made)
    return shop


def of_points(shop: ImageCollection) -> dict[PointId, Floats]:
    table = shop.table([CODES])
    return dict(zip(table.ids, table.vectors[CODES], strict=True))


def test_ready_vectors_get_the_codes_of_new_labels(store: Store, tmp_path: Path) -> None:
    shop = loaded(store, table_of(tmp_path, LABELS), TABLE)
    ready = table_of(tmp_path, ["l2", "", *LABELS[2:]])
    found = ingest_vectors(ready, shop, projection=TABLE)
    assert found.stale == {}
    assert of_points(shop)[0][:K].tolist() == [0, 0, 1]
    assert 0 < of_points(shop)[1][:K].max() < 1
    assert n_stale(shop, TABLE) == 0


def test_ready_vectors_without_labels_leave_codes_of_stored_ones(
    store: Store, tmp_path: Path
) -> None:
    shop = loaded(store, table_of(tmp_path, LABELS), TABLE)
    before = of_points(shop)
    found = ingest_vectors(table_of(tmp_path, None, shelf=1), shop, projection=TABLE)
    assert (found.written, found.updated) == (0, 6)
    after = of_points(shop)
    assert all((after[point] == before[point]).all() for point in before)
    assert n_stale(shop, TABLE) == 0


def test_ready_vectors_with_another_map_say_which_codes_are_stale(
    store: Store, tmp_path: Path
) -> None:
    pca = Projection(np.eye(D, 4, dtype=np.float32), "pca", "test", "ab")
    shop = loaded(store, table_of(tmp_path, LABELS), pca)
    backfill(shop, TABLE)
    found = ingest_vectors(table_of(tmp_path, ["l2", *LABELS[1:]]), shop, projection=pca)
    assert found.stale == {CODES: 1}
    assert backfill(shop, TABLE).projected == 1
    assert n_stale(shop, TABLE) == 0


# Labels that others change


def test_labels_that_others_change_are_found_by_a_verification(
    both: ImageCollection, codes: PosteriorMap
) -> None:
    point = point_id("photos", "00004.png")
    both.store.set_payload("photos", [point], {"label": "l2"})
    found = verify_vector(both, codes, n=1000)
    assert found.stale_ids == [point]
    assert "their 'raw' or 'label' has changed" in found.sentence


def test_an_interrupted_backfill_takes_up_labels_that_changed_meanwhile(
    both: ImageCollection, codes: PosteriorMap
) -> None:
    both.finish_vector(CODES, is_complete=False)
    both.store.set_payload("photos", [point_id("photos", "00004.png")], {"label": "l2"})
    assert backfill(both, codes).projected == 1
    assert n_stale(both, codes) == 0


def test_a_copy_holds_the_codes_of_the_labels_it_holds(
    store: Store, encoder: PlainEncoder, codes: PosteriorMap
) -> None:
    photos = filled(store, encoder, None)
    photos.store.set_payload("photos", [point_id("photos", "00004.png")], {"label": "l2"})
    copy_collection(photos, codes, new_collection="next")
    copied = ImageCollection.open(store, "next")
    assert chances(copied, 4) == [0, 0, 1]
    assert n_stale(copied, codes) == 0


def test_labels_inside_objects_are_seen_to_change(
    store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    nested = known_map((encoder.name, encoder.fingerprint), DIM, "shot.kind")
    photos = images_collection(store, "photos", encoder=encoder, projection=projection)
    how: Any = {"encoder": encoder, "projection": projection}
    ingest_images([record(n, shot={"kind": "l0"}) for n in range(N)], photos, **how)
    backfill(photos, nested)
    found = ingest_images([record(3, shot={"kind": "l1"})], photos, **how)
    assert found.stale == {"posterior_shot_kind": 1}


def test_images_that_come_later_get_codes_under_the_name_they_are_stored(
    store: Store, encoder: PlainEncoder, codes: PosteriorMap
) -> None:
    photos = filled(store, encoder, None)
    backfill(photos, codes, vector="mine")
    again = images_collection(store, "photos", encoder=encoder, projection=codes)
    source = [relabelled(4, "l2"), record(N + 1)]
    found = ingest_images(source, again, encoder=encoder, projection=codes)
    assert (found.written, found.updated, found.stale) == (1, 1, {})
    assert set(again.info().vectors) == {"raw", "mine"}
    assert chances(again, 4, "mine") == [0, 0, 1]
    assert len(by_path(again, "mine")) == N + 1
    assert verify_vector(again, codes, n=1000).stale == 0
