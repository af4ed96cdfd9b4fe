"""Points that cannot be projected, and points that change while a backfill goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError, ManifestMismatchError, NotFound, Unsupported
from intramodal.ingest.backfill.in_place import backfill, recompute
from intramodal.ingest.backfill.plan import plan_backfill
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.ingest.backfill.verify import verify_vector
from intramodal.projection.projection import Projection
from intramodal.runs.ledger import RunLedger
from intramodal.store.base import UNNAMED, Filter, Store, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.open import open_store
from tests.unit.ingest.backfill_kit import (
    MATRIX,
    ORIGIN,
    PROJECTION,
    D,
    Meddling,
    N,
    assert_projected,
    contents,
    payloads,
    photos_in,
    rows,
    shop_in,
    write,
)


def test_points_without_a_usable_vector_are_listed_with_their_reasons(store: Store) -> None:
    shop = shop_in(store, {"raw": VectorSpec(D), "other": VectorSpec(2)})
    shop.declare("raw", ORIGIN)
    write(shop, range(3))
    shop.write([3], {"other": np.ones((1, 2), np.float32)}, [{}])
    shop.write([4], {"raw": np.zeros((1, D), np.float32)}, [{}])
    with RunLedger.open(":memory:") as ledger, ledger.run("backfill") as run:
        summary = backfill(shop, PROJECTION, run=run, batch_size=2)
        told = [(f.item, f.stage, f.reason) for f in ledger.failures(run.id)]
    assert (summary.projected, summary.unprojectable) == (3, 2)
    assert told == [
        ("3", "project", "it has no vector 'raw'"),
        ("4", "project", "its vector 'raw' is zero"),
    ]
    assert [tuple(failure.values()) for failure in summary.failures] == told
    again = backfill(shop, PROJECTION)
    assert (again.projected, again.skipped, again.unprojectable) == (0, 3, 2)
    assert again.sentence == "nothing to do, 2 points cannot be projected"


def test_a_vector_that_is_projected_to_zero_is_listed(store: Store) -> None:
    photos = photos_in(store, n=2)
    flat = Projection(np.eye(D, 2), "pca", "test", "ab")
    across = np.zeros((1, D), np.float32)
    across[0, -1] = 1.0
    photos.write([5], {"raw": across}, [{}])
    summary = backfill(photos, flat)
    assert [f["reason"] for f in summary.failures] == ["the projection of its 'raw' is zero"]


def poison(location: str, vectors: dict[int, dict[str, np.ndarray]]) -> None:
    """Write vectors past our checks: the embedded engine takes NaN."""
    edge = pytest.importorskip("qdrant_edge", reason="no wheel of qdrant-edge-py here")
    (folder,) = (path for path in Path(location).iterdir() if path.is_dir())
    shard = edge.EdgeShard.load(str(folder))
    points = [edge.Point(i, named, {}) for i, named in vectors.items()]
    shard.update(edge.UpdateOperation.upsert_points(points))
    shard.close()


def test_vectors_that_are_not_finite_are_listed_apart_from_missing_ones(tmp_path: Path) -> None:
    location = str(tmp_path / "store")
    with open_store(location) as store:
        shop = shop_in(store, {"raw": VectorSpec(D, "Dot"), "other": VectorSpec(2)})
        shop.declare("raw", ORIGIN)
        write(shop, range(2))
    half, nothing = np.ones(D, np.float32), np.full(D, np.nan, np.float32)
    half[3] = np.inf
    other = np.ones(2, np.float32)
    poison(location, {7: {"raw": half}, 8: {"raw": nothing}, 9: {"other": other}})
    with open_store(location) as store:
        summary = backfill(ImageCollection.open(store, "shop"), PROJECTION)
    assert summary.projected == 2
    assert {f["item"]: f["reason"] for f in summary.failures} == {
        "7": "its vector 'raw' is not finite",
        "8": "its vector 'raw' is not finite",
        "9": "it has no vector 'raw'",
    }


def test_points_deleted_meanwhile_do_no_harm(store: Store) -> None:
    photos = photos_in(store)
    doomed = iter(range(0, N, 7))

    def delete() -> None:
        store.delete("photos", [next(doomed, 0), N - 1])

    summary = backfill(photos, Meddling(delete), batch_size=10)
    assert photos.count() <= summary.projected < N
    assert summary.unprojectable == 0
    assert_projected(photos)


def test_a_page_that_is_deleted_as_a_whole_does_no_harm(store: Store) -> None:
    photos = photos_in(store)
    summary = backfill(photos, Meddling(lambda: store.delete("photos", list(range(N)))))
    assert (summary.projected, summary.unprojectable, photos.count()) == (0, 0, 0)


def test_a_vector_removed_meanwhile_is_an_error_not_an_endless_search(store: Store) -> None:
    photos = photos_in(store)

    def remove() -> None:
        if "pca" in photos.info().vectors:
            store.delete_vector("photos", "pca")

    with pytest.raises(NotFound):
        backfill(photos, Meddling(remove))


def test_points_that_a_writer_adds_or_replaces_meanwhile_are_taken_up(store: Store) -> None:
    photos = photos_in(store)
    left = iter(range(3))

    def write_more() -> None:
        for n in left:
            write(photos, range(1000 + 10 * n, 1010 + 10 * n))
            write(photos, range(n, n + 5), salt=9)  # replaced as a whole: pca is wiped
            return

    backfill(photos, Meddling(write_more), batch_size=25)
    assert photos.count() == N + 30
    # A point read before and written after it was replaced holds the projection of what it was.
    fresh = photos.table(["raw", "pca"], where=Filter(ids=[*range(10, N), *range(1000, 1030)]))
    Z = fresh.vectors["raw"] @ MATRIX
    np.testing.assert_allclose(
        fresh.vectors["pca"], Z / np.linalg.norm(Z, axis=1, keepdims=True), atol=1e-6
    )  # float32 dot products over 16 terms, stored normalised
    assert photos.count(Filter(has_vector="pca")) == photos.count()


@pytest.mark.parametrize("writes_both", [False, True])
def test_a_source_changed_between_reading_and_writing_is_stale_unless_both_were_written(
    store: Store, writes_both: bool
) -> None:
    photos = photos_in(store)
    changed = rows([3], salt=4)

    def change() -> None:
        store.update_vectors("photos", "raw", [3], changed)
        if writes_both:
            store.update_vectors("photos", "pca", [3], PROJECTION.apply(changed))

    backfill(photos, Meddling(change))
    assert backfill(photos, PROJECTION).projected == 0  # it has one
    assert verify_vector(photos, PROJECTION, n=N).stale_ids == ([] if writes_both else [3])
    recompute(photos, PROJECTION, where=Filter(ids=[3]))
    assert_projected(photos)


def test_a_throttle_is_the_most_points_a_second(store: Store) -> None:
    photos = photos_in(store, n=20)
    started = time.monotonic()
    backfill(photos, PROJECTION, batch_size=5, throttle=100)
    assert time.monotonic() - started >= 20 / 100


def test_a_late_write_of_the_whole_point_is_refilled_by_a_repeat(store: Store) -> None:
    photos = photos_in(store)
    backfill(photos, PROJECTION)
    write(photos, range(5), salt=1)
    again = backfill(photos, PROJECTION)
    assert (again.projected, again.skipped) == (5, N - 5)
    assert_projected(photos)


@pytest.mark.parametrize("was_complete", [False, True])
def test_a_writer_without_the_vector_leaves_it_incomplete_and_is_to_write_both(
    store: Store, was_complete: bool
) -> None:
    photos = photos_in(store, n=5)
    if was_complete:
        backfill(photos, PROJECTION)
        write(photos, range(5))
    ids = iter(range(100, 200))
    never_stops = Meddling(lambda: write(photos, range(i := next(ids), i + 1)))
    summary = backfill(photos, never_stops)
    assert (summary.projected, summary.late, summary.lacking) == (14, 9, 1)
    assert summary.sentence == (
        "14 points of 'photos' got 'pca', 0 points cannot be projected; 10 points came meanwhile "
        "without 'pca', 1 of them lack it still: let their writer write both vectors, then run "
        "the same command again"
    )
    assert photos.count(Filter(ids=range(5), has_vector="pca")) == 5
    assert not ImageCollection.open(store, "photos").origin("pca").is_complete
    again = backfill(photos, PROJECTION)
    assert (again.projected, again.late, again.lacking) == (1, 0, 0)
    assert ImageCollection.open(store, "photos").origin("pca").is_complete


def test_points_that_came_without_the_vector_and_got_it_are_told_of(store: Store) -> None:
    photos = photos_in(store)
    pages = iter(range(9))

    def write_once() -> None:
        if next(pages) == 2:
            write(photos, range(5))

    summary = backfill(photos, Meddling(write_once), batch_size=10)
    assert (summary.projected, summary.late, summary.lacking) == (N + 5, 5, 0)
    assert "; 5 points came meanwhile without 'pca', 0 of them lack it still: " in summary.sentence
    assert ImageCollection.open(store, "photos").origin("pca").is_complete


def test_a_point_added_with_both_vectors_is_never_waited_for(store: Store) -> None:
    photos = photos_in(store)
    ids = iter(range(1000, 2000))

    def write_both() -> None:
        some = [next(ids) for _ in range(3)]
        both = {"raw": rows(some), "pca": PROJECTION.apply(rows(some))}
        photos.write(some, both, [{}] * 3)

    summary = backfill(photos, Meddling(write_both), batch_size=10)
    assert (summary.projected, summary.late, summary.lacking) == (N, 0, 0)
    assert_projected(photos)


def test_points_whose_write_was_kept_up_by_deletions_are_no_news(store: Store) -> None:
    photos = photos_in(store, n=10)
    doomed = iter([1, 2, 3])

    class Deleting:
        """A store that loses a point before each of the first writes of a vector."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def update_vectors(self, *what: Any, **how: Any) -> None:
            store.delete("photos", [next(doomed, 99)])
            store.update_vectors(*what, **how)

    losing: Any = ImageCollection(Deleting(), "photos", photos.manifest)  # type: ignore[arg-type]
    summary = backfill(losing, PROJECTION)
    assert (summary.late, summary.lacking, photos.count()) == (0, 0, 7)
    assert_projected(photos)


@pytest.mark.parametrize("spec", [VectorSpec(D), VectorSpec(D, "Dot"), VectorSpec(D, "Euclid")])
def test_a_vector_is_added_beside_one_without_a_name(store: Store, spec: VectorSpec) -> None:
    shop = shop_in(store, {UNNAMED: spec})
    shop.write(list(range(N)), {UNNAMED: 3 * rows(range(N))}, payloads(range(N)))
    shop.declare(UNNAMED, ORIGIN)
    before = contents(shop, [UNNAMED])
    plan = plan_backfill(shop, PROJECTION, source=UNNAMED)
    assert any("become a map of" in note for note in plan.notes) == (store.location == ":memory:")
    assert any("ranks by cosine" in note for note in plan.notes) == (spec.distance != "Cosine")
    done = backfill(shop, PROJECTION, source=UNNAMED)
    assert (done.projected, done.notes) == (N, [n for n in plan.notes if "'pca'" in n])
    assert contents(shop, [UNNAMED]) == before
    assert shop.info().vectors == {UNNAMED: spec, "pca": VectorSpec(D // 2)}
    assert_projected(shop, source=UNNAMED)
    assert verify_vector(shop, PROJECTION, source=UNNAMED, n=N).stale == 0
    again = ImageCollection.open(store, "shop")
    assert rollback_vector(again).removed == N
    assert (again.origin(UNNAMED), contents(again, [UNNAMED])) == (ORIGIN, before)
    assert again.search(rows([5]), using=UNNAMED, k=1, exact=True).ids  # as before there was one


def test_a_store_that_cannot_add_vectors_is_refused_before_the_manifest_is_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise Unsupported("too old")

    photos = photos_in(store)
    monkeypatch.setattr(store, "check_adds_vectors", refuse)
    for act in (backfill, plan_backfill):
        with pytest.raises(Unsupported):
            act(photos, PROJECTION)
    assert set(ImageCollection.open(store, "photos").manifest.vectors) == {"raw"}


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"throttle": 0.0}, {"throttle": -1.0}])
def test_numbers_that_cannot_be_meant_are_refused(store: Store, wrong: dict[str, Any]) -> None:
    photos = photos_in(store, n=1)
    with pytest.raises(InputError):
        backfill(photos, PROJECTION, **wrong)
    assert set(photos.info().vectors) == {"raw"}


def test_recomputing_mends_the_matching_points_alone(store: Store) -> None:
    photos = photos_in(store)
    backfill(photos, PROJECTION)
    store.update_vectors("photos", "raw", [0, 1, 3], rows([0, 1, 3], salt=2))
    before = contents(photos, ["raw", "pca"])
    summary = recompute(photos, PROJECTION, where=Filter(equals={"label": "l0"}))
    assert (summary.projected, summary.skipped) == (N // 3, 0)
    after = contents(photos, ["raw", "pca"])
    changed = {i for i in before if after[i] != before[i]}
    # A product of other rows may round the last bit of a row otherwise.
    assert {0, 3} <= changed <= set(range(0, N, 3))
    assert all(after[i][1]["raw"] == before[i][1]["raw"] for i in before)
    recompute(photos, PROJECTION, where=Filter(ids=[1]))
    assert_projected(photos)


def test_recomputing_fills_points_that_lack_the_vector_and_lists_the_hopeless(
    store: Store,
) -> None:
    photos = photos_in(store)
    backfill(photos, PROJECTION)
    write(photos, range(5))
    photos.write([500], {"raw": np.zeros((1, D), np.float32)}, [{}])
    summary = recompute(photos, PROJECTION, where=Filter())
    assert (summary.projected, summary.unprojectable) == (N, 1)
    assert_projected(photos, lacking=1)


def test_recomputing_needs_a_vector_of_this_projection(store: Store) -> None:
    photos = photos_in(store)
    with pytest.raises(NotFound, match="run the backfill first"):
        recompute(photos, PROJECTION, where=Filter())
    backfill(photos, PROJECTION)
    other = Projection(-MATRIX, "pca", "test", "ab")
    before = contents(photos, ["pca"])
    with pytest.raises(ManifestMismatchError):
        recompute(photos, other, where=Filter())
    assert contents(photos, ["pca"]) == before


def test_what_others_declared_meanwhile_stays_declared(store: Store) -> None:
    store.create("photos", {"raw": VectorSpec(D), "text": VectorSpec(2)})
    photos = ImageCollection.open(store, "photos")
    photos.declare("raw", ORIGIN)
    write(photos, range(N))

    def adopt() -> None:
        ImageCollection.open(store, "photos").declare("text", ORIGIN)

    backfill(photos, Meddling(adopt))
    known = ImageCollection.open(store, "photos").manifest.vectors
    assert set(known) == {"raw", "text", "pca"}
    assert known["pca"].is_complete
