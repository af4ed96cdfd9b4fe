"""The copy route: everything arrives, nothing is lost, clients are switched in one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any

import numpy as np
import pytest

from intramodal.errors import (
    Conflict,
    InputError,
    IntramodalError,
    ManifestMismatchError,
    NotFound,
    StoreError,
    Unsupported,
)
from intramodal.ingest.backfill import copy
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.plan import plan_copy
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.progress import LongRead, long_reads_told
from intramodal.projection.projection import Projection
from intramodal.store.base import UNNAMED, Filter, Store, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.types import PointId
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


def copied(store: Store, name: str = "new") -> ImageCollection:
    return ImageCollection.open(store, name)


def test_everything_arrives_beside_the_projected_vector(store: Store) -> None:
    photos = photos_in(store)
    store.set_metadata("photos", {"owner": "the shop"})
    store.ensure_index("photos", "label", "keyword")
    before = contents(photos)
    summary = copy_collection(photos, PROJECTION, new_collection="new", batch_size=25)
    assert (summary.copied, summary.projected, summary.compared) == (N, N, N)
    assert (summary.unprojectable, summary.only_in_new, summary.aliases) == (0, 0, [])
    assert contents(photos) == before
    assert contents(copied(store)) == before
    assert_projected(copied(store))
    info = store.info("new")
    assert info.indexes == {"label": "keyword"}
    assert info.metadata["owner"] == "the shop"
    known = copied(store).manifest.vectors
    assert known["raw"] == photos.origin("raw")
    assert known["pca"].is_complete
    assert known["pca"].projection == PROJECTION.fingerprint
    assert set(photos.info().vectors) == {"raw"}
    assert "new name 'new'" in summary.sentence


def test_an_unnamed_vector_becomes_raw(store: Store) -> None:
    shop = shop_in(store, {UNNAMED: VectorSpec(D)})
    shop.declare(UNNAMED, ORIGIN)
    ids: list[PointId] = list(range(5))
    shop.write(ids, {UNNAMED: rows(range(5))}, payloads(range(5)))
    copy_collection(shop, PROJECTION, new_collection="new", source=UNNAMED)
    new = copied(store)
    assert {name: spec.size for name, spec in new.info().vectors.items()} == {
        "raw": D, "pca": D // 2,
    }  # fmt: skip
    assert new.manifest.vectors["pca"].source == "raw"
    np.testing.assert_allclose(new.table(["raw"]).vectors["raw"], rows(range(5)), atol=1e-6)
    assert_projected(new)
    assert backfill(new, PROJECTION).sentence == "nothing to do, 0 points cannot be projected"


def mixed_shop(store: Store) -> ImageCollection:
    """Make points with all vectors, with some, and with unusable ones; several distances."""
    vectors = {"raw": VectorSpec(D), "text": VectorSpec(4, "Dot"), "half": VectorSpec(2, "Euclid")}
    shop = shop_in(store, vectors)
    shop.declare("raw", ORIGIN)
    text, half = np.full((2, 4), 3.25, np.float32), np.array([[1e-7, 2], [-3, 4e6]], np.float32)
    shop.write([0, 1], {"raw": rows([0, 1]), "text": text, "half": half}, payloads(range(2)))
    shop.write([2, 3], {"raw": rows([2, 3])}, payloads(range(2, 4)))
    shop.write([4, 5], {"text": text}, payloads(range(4, 6)))
    shop.write([6], {"raw": np.zeros((1, D), np.float32), "half": half[:1]}, [{}])
    return shop


def test_points_keep_the_vectors_they_have_and_lack_those_they_lack(store: Store) -> None:
    shop = mixed_shop(store)
    summary = copy_collection(shop, PROJECTION, new_collection="new")
    names = ["raw", "text", "half"]
    assert contents(copied(store), names) == contents(shop, names)
    assert store.info("new").vectors["text"] == VectorSpec(4, "Dot")
    assert (summary.copied, summary.projected, summary.unprojectable) == (7, 4, 3)
    assert {f["item"]: f["reason"] for f in summary.failures} == {
        "4": "it has no vector 'raw'",
        "5": "it has no vector 'raw'",
        "6": "its vector 'raw' is zero",
    }


def test_a_repeat_copies_nothing(store: Store) -> None:
    photos = photos_in(store)
    copy_collection(photos, PROJECTION, new_collection="new")
    again = copy_collection(photos, PROJECTION, new_collection="new")
    assert (again.copied, again.projected, again.skipped) == (0, 0, N)
    assert again.sentence.startswith("nothing to do, 0 points cannot be projected")


def test_a_stopped_copy_goes_on_with_what_is_missing(store: Store) -> None:
    photos = photos_in(store)
    calls = iter(range(3))

    def stop() -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_collection(photos, Meddling(stop), new_collection="new", batch_size=20)
    assert not copied(store).origin("pca").is_complete
    rest = copy_collection(photos, PROJECTION, new_collection="new", batch_size=20)
    assert (rest.copied, rest.skipped) == (N - 40, 40)
    assert contents(copied(store)) == contents(photos)
    assert_projected(copied(store))


def test_points_added_meanwhile_are_copied_by_another_pass(store: Store) -> None:
    photos = photos_in(store)
    left = iter([range(1000, 1005)])

    def add() -> None:
        for ids in left:
            write(photos, ids)

    summary = copy_collection(photos, Meddling(add), new_collection="new")
    assert (summary.copied, summary.only_in_new) == (N + 5, 0)
    assert contents(copied(store)) == contents(photos)


def test_points_deleted_meanwhile_are_counted_said_and_kept(store: Store) -> None:
    photos = photos_in(store)
    pages = iter(range(5))

    def delete() -> None:
        if next(pages, None) == 1:
            store.delete("photos", [0, 1])

    summary = copy_collection(photos, Meddling(delete), new_collection="new", batch_size=20)
    assert summary.only_in_new == 2
    assert "'new' holds 2 points that 'photos' lacks" in summary.sentence
    assert copied(store).count() == N


def test_points_that_a_writer_brings_to_both_meanwhile_are_never_overwritten(store: Store) -> None:
    """The writer writes after the old points were read and before they are copied."""
    photos = photos_in(store)
    fresh = {"raw": rows([3, 4], salt=1)}
    calls = iter(range(1))

    def write_both() -> None:
        if next(calls, None) is None:
            return
        told = [{"by": "the writer"}] * 2
        store.upsert("photos", [3, 4], fresh, told)
        projected = PROJECTION.apply(fresh["raw"])
        store.upsert("new", [3, 4], {**fresh, "pca": projected}, told)

    store.set_alias("shown", "photos")
    copy_collection(photos, Meddling(write_both), new_collection="new")
    page = store.retrieve("shown", [3, 4], vectors=["raw"], payload=True)
    assert page.payloads == [{"by": "the writer"}] * 2
    # float32 rows, divided by their length once more
    np.testing.assert_allclose(page.vectors["raw"], fresh["raw"], atol=1e-6)
    assert_projected(copied(store))


def to_both(store: Store, act: Callable[[str], None]) -> None:
    """Write to the old collection, then to the new one, which may not have the point yet."""
    act("photos")
    with suppress(NotFound):
        act("new")


def test_a_vector_or_payload_written_to_both_while_its_page_is_copied_is_not_lost(
    store: Store,
) -> None:
    photos = photos_in(store)
    store.set_alias("shown", "photos")
    turns = count()

    def write_parts() -> None:
        turn = next(turns)
        if turn >= 3:
            return
        at_hand, ahead, payload = 20 * turn + turn, N - 1 - turn, {"by": f"writer {turn}"}
        for point in (at_hand, ahead):
            X = rows([point], salt=turn + 1)
            to_both(store, lambda name: store.update_vectors(name, "raw", [point], X))  # noqa: B023  called at once
        for point in (at_hand, ahead, 2):
            to_both(store, lambda name: store.set_payload(name, [point], payload))  # noqa: B023

    done = copy_collection(photos, Meddling(write_parts), new_collection="new", batch_size=20)
    assert done.aliases == ["shown"]
    assert next(turns) > 3  # once more, for what had changed
    old, new = contents(photos), contents(copied(store))
    assert {i: payload for i, (payload, _) in new.items()} == {
        i: payload for i, (payload, _) in old.items()
    }
    both = [collection.table(["raw"]).vectors["raw"] for collection in (photos, copied(store))]
    # float32 rows, divided by their length once more
    np.testing.assert_allclose(both[1], both[0], atol=1e-6)


def test_points_that_are_changed_faster_than_they_are_copied_stop_the_switch(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy, "_PAUSE_S", 0.0)
    photos = photos_in(store)
    store.set_alias("shown", "photos")
    turns = count()

    def change() -> None:
        store.set_payload("photos", [3], {"turn": next(turns)})

    with pytest.raises(StoreError, match=r"1 point of 'new' differ .* after 10 copies"):
        copy_collection(photos, Meddling(change), new_collection="new")
    assert store.aliases() == {"shown": "photos"}


def test_writers_to_both_collections_do_not_unsettle_the_counts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Points are added to both and deleted from both between any two counts."""
    monkeypatch.setattr(copy, "_PAUSE_S", 0.0)
    photos = photos_in(store)
    store.set_alias("shown", "photos")
    ids, doomed, plain = count(1000), count(30), type(store).count

    def busy(self: Store, *of_what: Any, **how: Any) -> int:
        if self.exists("new"):
            point = [next(ids)]
            X, gone = rows(point), [next(doomed)]
            for name, more in {"photos": {}, "new": {"pca": PROJECTION.apply(X)}}.items():
                self.upsert(name, point, {"raw": X, **more}, [{}])
                self.delete(name, gone)
        return plain(self, *of_what, **how)

    monkeypatch.setattr(type(store), "count", busy)
    done = copy_collection(photos, PROJECTION, new_collection="new")
    assert (done.aliases, done.only_in_new) == (["shown"], 0)


def test_a_writer_between_its_two_writes_does_not_stop_the_switch(store: Store) -> None:
    photos = photos_in(store)
    store.set_alias("shown", "photos")
    calls = iter(["copy", "change", "copy", "compare"])

    def step() -> None:
        names = {"change": "photos", "compare": "new"}
        name = names.get(next(calls, ""))
        if name:
            store.set_payload(name, [3], {"label": "another"})

    done = copy_collection(photos, Meddling(step), new_collection="new", batch_size=20)
    assert done.aliases == ["shown"]
    assert contents(copied(store)) == contents(photos)


def test_a_point_changed_during_the_copy_stops_the_switch(store: Store) -> None:
    photos = photos_in(store)
    store.set_alias("shown", "photos")
    pages = iter(range(5))

    def change() -> None:
        if next(pages, None) == 1:
            store.set_payload("photos", [3], {"label": "another"})

    with pytest.raises(StoreError, match=r"point 3 of 'new' differs .* its payload"):
        copy_collection(photos, Meddling(change), new_collection="new", batch_size=20)
    assert store.aliases() == {"shown": "photos"}


def test_a_vector_changed_during_the_copy_stops_the_switch(store: Store) -> None:
    photos = photos_in(store)
    store.set_alias("shown", "photos")
    pages = iter(range(5))

    def change() -> None:
        if next(pages, None) == 1:
            store.update_vectors("photos", "raw", [3], rows([3], salt=1))

    with pytest.raises(StoreError, match=r"point 3 of 'new' differs .* the vector 'raw'"):
        copy_collection(photos, Meddling(change), new_collection="new", batch_size=20)
    assert store.aliases() == {"shown": "photos"}


def test_all_aliases_of_the_old_collection_are_switched(store: Store) -> None:
    photos = photos_in(store)
    store.create("other", {"raw": VectorSpec(2)})
    store.set_aliases({"shown": "photos", "listed": "photos", "else": "other"})
    summary = copy_collection(photos, PROJECTION, new_collection="new")
    assert summary.aliases == ["listed", "shown"]
    assert store.aliases() == {"shown": "new", "listed": "new", "else": "other"}
    assert ImageCollection.open(store, "shown").count(Filter(has_vector="pca")) == N


def test_after_the_switch_deleted_points_do_not_return(store: Store) -> None:
    photos = photos_in(store)
    store.set_alias("shown", "photos")
    copy_collection(photos, PROJECTION, new_collection="new")
    store.delete("new", [1, 2, 3])
    write(copied(store), range(500, 503))
    for collection in (photos, copied(store)):  # by its own name; and what the alias means now
        again = copy_collection(collection, PROJECTION, new_collection="new")
        assert (again.copied, again.aliases) == (0, [])
    assert copied(store).count() == N
    assert_projected(copied(store))


def test_an_alias_stands_for_its_collection_before_and_after_the_switch(store: Store) -> None:
    photos_in(store)
    store.set_alias("shown", "photos")

    def shown() -> ImageCollection:
        return ImageCollection.open(store, "shown")

    assert plan_copy(shown(), PROJECTION, new_collection="new").collection == "photos"
    assert copy_collection(shown(), PROJECTION, new_collection="new").aliases == ["shown"]
    assert plan_copy(shown(), PROJECTION, new_collection="new").notes == [
        "nothing is copied: clients use 'new' already; what they deleted stays deleted"
    ]
    assert rollback_vector(shown()).aliases == ["shown"]
    notes = plan_copy(shown(), PROJECTION, new_collection="new").notes
    assert "'new' holds about 60 points already, which stay" in notes
    assert store.aliases() == {"shown": "photos"}


def test_the_copy_of_a_collection_that_is_gone_says_so(store: Store) -> None:
    photos = photos_in(store)
    store.set_alias("shown", "photos")
    copy_collection(photos, PROJECTION, new_collection="new")
    store.drop("photos")
    with pytest.raises(InputError, match="leave out `new_collection`"):
        copy_collection(copied(store), PROJECTION, new_collection="new")


def test_a_stale_projection_of_the_old_collection_is_not_copied(store: Store) -> None:
    photos = photos_in(store)
    backfill(photos, PROJECTION)
    store.update_vectors("photos", "raw", [3], rows([3], salt=1))
    copy_collection(photos, PROJECTION, new_collection="new")
    assert_projected(copied(store))


def taken(store: Store) -> None:
    store.create("new", {"raw": VectorSpec(D)})


def taken_by_an_alias(store: Store) -> None:
    store.create("other", {"raw": VectorSpec(D)})
    store.set_alias("new", "other")


def copied_through_another(store: Store) -> None:
    other = Projection(-MATRIX, "pca", "test", "ab")
    copy_collection(ImageCollection.open(store, "photos"), other, new_collection="new")


@pytest.mark.parametrize("occupy", [taken, taken_by_an_alias, copied_through_another])
def test_a_name_that_is_taken_by_anything_else_is_refused(store: Store, occupy: Any) -> None:
    photos = photos_in(store)
    occupy(store)
    before = store.info("new")
    for act in (plan_copy, copy_collection):
        with pytest.raises(Conflict, match="another `new_collection`"):
            act(photos, PROJECTION, new_collection="new")
    assert store.info("new") == before


@pytest.mark.parametrize(
    ("vectors", "options", "error", "said"),
    [
        ({"raw": VectorSpec(D)}, {"new": "photos"}, InputError, "into itself"),
        ({"raw": VectorSpec(D)}, {"new": "a/b"}, InputError, "cannot be the name"),
        ({"raw": VectorSpec(D)}, {"vector": "raw"}, InputError, "into itself"),
        ({"raw": VectorSpec(D + 1)}, {}, InputError, "dimensions"),
        ({"raw": VectorSpec(D), "pca": VectorSpec(2)}, {}, ManifestMismatchError, "adopt"),
    ],
)
def test_what_cannot_be_copied_is_refused_before_anything_is_made(
    store: Store,
    vectors: Mapping[str, VectorSpec],
    options: dict[str, str],
    error: type[IntramodalError],
    said: str,
) -> None:
    store.create("photos", vectors)
    photos = ImageCollection.open(store, "photos")
    photos.declare("raw", ORIGIN)
    options = dict(options)
    new = options.pop("new", "new")
    for act in (plan_copy, copy_collection):
        with pytest.raises(error, match=said):
            act(photos, PROJECTION, new_collection=new, **options)
    assert store.collections() == ["photos"]


def test_an_unnamed_vector_beside_a_raw_one_needs_another_name(store: Store) -> None:
    shop = shop_in(store, {UNNAMED: VectorSpec(D)})
    store.add_vector("shop", "raw", VectorSpec(2))
    shop.declare(UNNAMED, ORIGIN)
    with pytest.raises(InputError, match="another vector's name"):
        copy_collection(shop, PROJECTION, new_collection="new", source=UNNAMED)
    assert store.collections() == ["shop"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sparse_vectors": {"words": {}}}, "sparse or multi vector 'words'"),
        ({"sharding_method": "custom"}, "shards by key"),
    ],
)
def test_what_a_copy_would_lose_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], said: str
) -> None:
    photos = photos_in(store, n=1)
    monkeypatch.setattr(store, "settings", lambda name: settings)
    with pytest.raises(Unsupported, match=said):
        copy_collection(photos, PROJECTION, new_collection="new")
    assert store.collections() == ["photos"]


def test_numbers_that_the_engine_reads_in_its_own_way_do_not_stop_the_switch(store: Store) -> None:
    photos = photos_in(store)
    store.set_alias("shown", "photos")
    rng = np.random.default_rng(2)
    for point in range(N):
        scores = np.exp(rng.normal(scale=6, size=40))
        payload = {"scores": (scores / scores.sum()).tolist(), "phash": 2**64 - 1 - point}
        store.set_payload("photos", [point], payload)
    assert copy_collection(photos, PROJECTION, new_collection="new").aliases == ["shown"]
    phashes = [page.payloads for page in copied(store).scroll(payload=["phash"])]
    assert phashes == [page.payloads for page in photos.scroll(payload=["phash"])]


@pytest.mark.parametrize("settings", [{}, {"new_collection": "new"}], ids=["in place", "copy"])
def test_a_long_backfill_is_foretold(
    store: Store, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    """Issue 20, item 10: by the rate at which its first points were read and written."""
    photos = photos_in(store)
    monkeypatch.setattr("intramodal.progress.MEASURED_S", 0.0)
    monkeypatch.setattr("intramodal.progress.LONG_S", 0.0)
    job: Any = copy_collection if settings else backfill
    found: list[LongRead] = []
    with long_reads_told(found.append):
        job(photos, PROJECTION, batch_size=N // 4, **settings)
    assert found[0].n == N
    assert found[0].seconds > 0
