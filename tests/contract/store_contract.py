"""What every store must do; one subclass a backend overrides the `store` fixture."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from intramodal.errors import Conflict, InputError, NotFound, StoreError, Unsupported
from intramodal.store.base import UNNAMED, Filter, Hits, Store, VectorSpec
from intramodal.store.checks import says
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import METADATA_KEY, Manifest, VectorOrigin
from intramodal.store.queries import id_order
from intramodal.types import Floats, PointId, point_id, unit_rows

N, D = 60, 8
NAME = "contract"
RAW = {"raw": VectorSpec(D)}
IDS: list[PointId] = [*range(0, N, 2), *(point_id("contract", str(i)) for i in range(1, N, 2))]
X = np.random.default_rng(11).normal(size=(N, D)).astype(np.float32)
UNIT = unit_rows(X)
ODD_FIELDS = [
    "my field",
    "a.b",
    "size[cm]",
    "x[]",
    "it's",
    "a/b:c",
    "ключ",
    "मूल्य",
    "😀",
    "new\nline",
    " ",
]
PAYLOADS: list[dict[str, Any]] = [
    {
        "label": "abc"[i % 3],
        "n": i,
        "weight": i / 4,
        "is_even": i % 2 == 0,
        "nested": {"text": "ü€", "list": [1, {"deep": None}]},
    }
    for i in range(N)
]
# Cosine vectors are normalised by the engine in float32: a few units in the last place.
ATOL = 2e-7


def in_id_order(ids: list[PointId]) -> list[PointId]:
    return sorted(ids, key=id_order)


def scrolled(store: Store, vector: str = "raw", **options: Any) -> tuple[list[PointId], Floats]:
    pages = list(store.scroll(NAME, vectors=[vector], **options))
    blocks = [page.vectors[vector] for page in pages]
    return [i for page in pages for i in page.ids], np.concatenate(blocks)


def payload_of(store: Store, point: PointId) -> dict[str, Any]:
    return store.retrieve(NAME, [point], payload=True).payloads[0]


class StoreContract:
    """All promises of `Store`."""

    # The client's local mode divides by the length, whatever it is.
    keeps_the_bits_of_unit_rows = True
    # The client's local mode has nothing to set up.
    sets_up_vectors = True

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        raise NotImplementedError

    @pytest.fixture
    def filled(self, store: Store) -> Store:
        store.create(NAME, RAW, metadata={"made": "by the contract"})
        store.upsert(NAME, IDS, {"raw": X}, PAYLOADS)
        return store

    # collections

    def test_a_new_store_holds_nothing(self, store: Store) -> None:
        assert store.collections() == []
        assert store.aliases() == {}
        assert not store.exists(NAME)

    def test_a_created_collection_is_described_as_it_was_defined(self, store: Store) -> None:
        vectors = {"raw": VectorSpec(8), "other": VectorSpec(3, "Dot")}
        store.create(NAME, vectors, metadata={"a": {"b": [1, None, "ü"]}})
        info = store.info(NAME)
        assert (info.name, info.n_points, info.vectors) == (NAME, 0, vectors)
        assert info.metadata == {"a": {"b": [1, None, "ü"]}}
        assert info.status == "green"
        assert store.collections() == [NAME]
        assert store.exists(NAME)

    def test_collections_are_listed_in_order(self, store: Store) -> None:
        for name in ("zebra", "apple", "mango"):
            store.create(name, RAW)
        assert store.collections() == ["apple", "mango", "zebra"]

    def test_a_taken_name_is_a_conflict(self, filled: Store) -> None:
        with pytest.raises(Conflict, match=NAME):
            filled.create(NAME, RAW)
        assert filled.count(NAME) == N

    def test_the_name_of_an_alias_is_taken(self, filled: Store) -> None:
        filled.set_alias("shown", NAME)
        with pytest.raises(Conflict, match="shown"):
            filled.create("shown", RAW)

    @pytest.mark.parametrize("name", ["", "a/b", "..", "a:b", "x" * 300, "a\nb", 'a"b'])
    def test_a_name_that_servers_refuse_is_refused(self, store: Store, name: str) -> None:
        with pytest.raises(InputError, match="name"):
            store.create(name, RAW)
        assert store.collections() == []

    @pytest.mark.parametrize(
        ("vectors", "error"),
        [
            ({}, InputError),
            ({"raw": VectorSpec(0)}, InputError),
            ({"raw": VectorSpec(70_000)}, InputError),
            ({"raw": VectorSpec(4, datatype="float99")}, Unsupported),
            ({"raw": VectorSpec(4, is_multivector=True)}, Unsupported),
        ],
    )
    def test_vectors_that_cannot_be_made_are_refused(
        self, store: Store, vectors: dict[str, VectorSpec], error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            store.create(NAME, vectors)
        assert not store.exists(NAME)

    def test_an_unknown_option_is_refused(self, store: Store) -> None:
        with pytest.raises(Unsupported, match="shards"):
            store.create(NAME, RAW, options={"shards": 3})
        assert not store.exists(NAME)

    def test_index_options_pass_through(self, store: Store) -> None:
        options = {
            "hnsw_config": {"m": 8, "ef_construct": 50},
            "quantization_config": {"scalar": {"type": "int8"}},
        }
        store.create(NAME, RAW, options=options)
        store.upsert(NAME, IDS, {"raw": X}, PAYLOADS)
        assert store.query_batch(NAME, X[:1], using="raw", k=1).ids == [[IDS[0]]]

    def test_dropping_removes_points_and_aliases(self, filled: Store) -> None:
        filled.set_alias("shown", NAME)
        filled.drop(NAME)
        assert (filled.collections(), filled.aliases()) == ([], {})
        filled.create(NAME, RAW)
        assert filled.count(NAME) == 0

    def test_an_alias_is_not_dropped_in_place_of_its_collection(self, filled: Store) -> None:
        filled.set_alias("shown", NAME)
        with pytest.raises(NotFound):
            filled.drop("shown")
        assert filled.count(NAME) == N

    def test_metadata_is_merged_by_its_top_level_keys(self, filled: Store) -> None:
        filled.set_metadata(NAME, {"made": "again", "nested": {"a": 1}})
        filled.set_metadata(NAME, {"nested": {"b": 2}})
        assert filled.info(NAME).metadata == {"made": "again", "nested": {"b": 2}}
        assert filled.count(NAME) == N

    def test_a_key_of_the_metadata_that_is_none_is_removed(self, filled: Store) -> None:
        filled.set_metadata(NAME, {"a": 1, "b": {"c": None}})
        filled.set_metadata(NAME, {"a": None, "never": None, "made": None})
        assert filled.info(NAME).metadata == {"b": {"c": None}}

    @pytest.mark.parametrize("is_old", [False, True])
    def test_two_writers_who_declare_other_vectors_at_the_same_time_lose_nothing(
        self, filled: Store, monkeypatch: pytest.MonkeyPatch, *, is_old: bool
    ) -> None:
        """Both have read the manifest before either writes it, in the form of now or of before."""
        raw = VectorOrigin("clip", "3f9a")
        if is_old:
            old = {"version": 1, "dataset": "shop", "vectors": {"raw": asdict(raw)}}
            filled.set_metadata(NAME, {METADATA_KEY: old})
        else:
            ImageCollection.open(filled, NAME).declare("raw", raw)
        both, write = threading.Barrier(2, timeout=30), filled.set_metadata

        def write_together(*arguments: Any) -> None:
            both.wait()
            write(*arguments)

        monkeypatch.setattr(filled, "set_metadata", write_together)
        made = {name: replace(raw, projection=name) for name in ("pca", "oti")}
        mine, theirs = (ImageCollection.open(filled, NAME) for _ in made)
        with ThreadPoolExecutor(2) as pool:
            for done in (
                pool.submit(mine.declare, "pca", made["pca"]),
                pool.submit(theirs.declare, "oti", made["oti"]),
            ):
                done.result()
        metadata = filled.info(NAME).metadata
        assert Manifest.from_metadata(metadata) == Manifest(
            {"raw": raw, **made}, "shop" if is_old else ""
        )
        assert metadata["made"] == "by the contract"

    @pytest.mark.parametrize(
        "act",
        [
            lambda s: s.info("absent"),
            lambda s: s.count("absent"),
            lambda s: s.drop("absent"),
            lambda s: s.set_metadata("absent", {}),
            lambda s: list(s.scroll("absent")),
            lambda s: list(s.scan("absent")),
            lambda s: s.retrieve("absent", [1]),
            lambda s: s.delete("absent", [1]),
            lambda s: s.upsert("absent", [1], {"raw": X[:1]}, [{}]),
            lambda s: s.update_vectors("absent", "raw", [1], X[:1]),
            lambda s: s.update_vectors("absent", "raw", [1], X[:1], only_lacking=True),
            lambda s: s.set_payload("absent", [1], {"a": 1}),
            lambda s: s.add_vector("absent", "pca", VectorSpec(2)),
            lambda s: s.delete_vector("absent", "raw"),
            lambda s: s.query_batch("absent", X[:1], using="raw", k=1),
            lambda s: s.ensure_index("absent", "label", "keyword"),
            lambda s: s.set_alias("shown", "absent"),
            lambda s: s.delete_alias("absent"),
            lambda s: s.optimize("absent"),
        ],
    )  # fmt: skip
    def test_what_is_absent_is_not_found(self, store: Store, act: Any) -> None:
        with pytest.raises(NotFound, match="absent"):
            act(store)

    # points

    def test_points_come_back_with_unit_vectors_and_equal_payload(self, filled: Store) -> None:
        page = filled.retrieve(NAME, IDS, vectors=["raw"], payload=True)
        assert page.ids == IDS
        assert page.payloads == PAYLOADS
        assert page.vectors["raw"].dtype == np.float32
        np.testing.assert_allclose(page.vectors["raw"], UNIT, atol=ATOL)

    def test_unit_vectors_come_back_as_they_were(self, filled: Store) -> None:
        stored = filled.retrieve(NAME, IDS, vectors=["raw"]).vectors["raw"]
        filled.upsert(NAME, IDS, {"raw": stored}, PAYLOADS)
        again = filled.retrieve(NAME, IDS, vectors=["raw"]).vectors["raw"]
        np.testing.assert_allclose(
            again, stored, rtol=0, atol=0 if self.keeps_the_bits_of_unit_rows else ATOL
        )

    @pytest.mark.parametrize("length", [1e-30, 1e-4, 1e-2, 1e2, 1e4, 1e30])
    def test_cosine_vectors_of_any_length_come_back_as_unit_vectors(
        self, filled: Store, length: float
    ) -> None:
        """Issue 20, F02: the engine leaves very short ones and turns very long ones into zeros."""
        scaled = UNIT * np.float32(length)
        filled.upsert(NAME, IDS, {"raw": scaled}, PAYLOADS)
        kept = filled.retrieve(NAME, IDS, vectors=["raw"]).vectors["raw"]
        np.testing.assert_allclose(kept, UNIT, atol=ATOL)
        filled.update_vectors(NAME, "raw", IDS[:5], scaled[:5])
        kept = filled.retrieve(NAME, IDS[:5], vectors=["raw"]).vectors["raw"]
        np.testing.assert_allclose(kept, UNIT[:5], atol=ATOL)

    def test_lengths_survive_under_the_dot_product(self, store: Store) -> None:
        store.create(NAME, {"raw": VectorSpec(D, "Dot")})
        store.upsert(NAME, IDS, {"raw": X}, PAYLOADS)
        stored = store.retrieve(NAME, IDS, vectors=["raw"]).vectors["raw"]
        np.testing.assert_array_equal(stored, X)

    def test_both_vectors_are_written_in_one_upsert(self, store: Store) -> None:
        store.create(NAME, {"raw": VectorSpec(D), "pca": VectorSpec(3)})
        store.upsert(NAME, IDS, {"raw": X, "pca": X[:, :3]}, PAYLOADS)
        page = store.retrieve(NAME, IDS, vectors=["raw", "pca"])
        np.testing.assert_allclose(page.vectors["raw"], UNIT, atol=ATOL)
        np.testing.assert_allclose(page.vectors["pca"], unit_rows(X[:, :3]), atol=ATOL)

    def test_writing_again_replaces_the_whole_point(self, filled: Store) -> None:
        filled.upsert(NAME, IDS[:1], {"raw": X[1:2]}, [{"only": 1}])
        page = filled.retrieve(NAME, IDS[:1], vectors=["raw"], payload=True)
        assert page.payloads == [{"only": 1}]
        np.testing.assert_allclose(page.vectors["raw"], UNIT[1:2], atol=ATOL)
        assert filled.count(NAME) == N

    def test_inserting_leaves_points_that_exist_as_they_are(self, filled: Store) -> None:
        filled.add_vector(NAME, "pca", VectorSpec(3))
        filled.update_vectors(NAME, "pca", IDS[:2], X[:2, :3])
        before = filled.retrieve(NAME, IDS, vectors=["raw", "pca"], payload=True)
        new: list[PointId] = [1001, point_id("contract", "new")]
        given = {"raw": X[:4], "pca": X[:4, :3]}
        filled.insert(NAME, [*IDS[1:3], *new], given, [{"by": "insert"}] * 4)
        after = filled.retrieve(NAME, IDS, vectors=["raw", "pca"], payload=True)
        assert after.payloads == before.payloads
        for vector in ("raw", "pca"):
            np.testing.assert_array_equal(after.vectors[vector], before.vectors[vector])
        added = filled.retrieve(NAME, new, vectors=["raw", "pca"], payload=True)
        assert (added.ids, added.payloads) == (new, [{"by": "insert"}] * 2)
        np.testing.assert_allclose(added.vectors["raw"], UNIT[2:4], atol=ATOL)
        np.testing.assert_allclose(added.vectors["pca"], unit_rows(X[2:4, :3]), atol=ATOL)
        assert filled.count(NAME) == N + 2

    def test_inserting_checks_what_it_is_given(self, filled: Store) -> None:
        with pytest.raises(InputError, match="NaN"):
            filled.insert(NAME, [1001], {"raw": X[:1] * np.nan}, [{}])
        with pytest.raises(InputError, match="twice"):
            filled.insert(NAME, [1001, 1001], {"raw": X[:2]}, [{}, {}])
        filled.insert(NAME, [], {"raw": X[:0]}, [])
        assert filled.count(NAME) == N

    def test_many_points_arrive_whatever_the_batches(self, store: Store) -> None:
        many = np.random.default_rng(1).normal(size=(2345, 4)).astype(np.float32)
        store.create(NAME, {"raw": VectorSpec(4)})
        store.upsert(NAME, list(range(2345)), {"raw": many}, [{"n": i} for i in range(2345)])
        ids, stored = scrolled(store)
        assert ids == list(range(2345))
        np.testing.assert_allclose(stored, unit_rows(many), atol=ATOL)

    def test_writing_no_points_is_fine(self, filled: Store) -> None:
        filled.upsert(NAME, [], {"raw": X[:0]}, [])
        filled.update_vectors(NAME, "raw", [], X[:0])
        filled.delete(NAME, [])
        assert filled.count(NAME) == N

    def test_uuids_are_taken_in_any_spelling_and_given_in_one(self, store: Store) -> None:
        store.create(NAME, RAW)
        canonical = str(point_id("a", "b"))
        store.upsert(NAME, [canonical.upper()], {"raw": X[:1]}, [{}])
        store.upsert(NAME, [canonical.replace("-", "")], {"raw": X[:1]}, [{}])
        assert store.retrieve(NAME, [canonical]).ids == [canonical]
        assert store.count(NAME) == 1

    @pytest.mark.parametrize("bad", ["cat.jpg", -1, 2**64, 1.5, None, True])
    def test_an_id_that_qdrant_refuses_is_refused_before_anything_is_written(
        self, store: Store, bad: Any
    ) -> None:
        store.create(NAME, RAW)
        with pytest.raises(InputError, match="id"):
            store.upsert(NAME, [1, bad], {"raw": X[:2]}, [{}, {}])
        assert store.count(NAME) == 0

    def test_an_id_twice_in_one_write_is_refused(self, filled: Store) -> None:
        with pytest.raises(InputError, match="twice"):
            filled.upsert(NAME, [900, 901, 900], {"raw": X[:3]}, [{}, {}, {}])
        with pytest.raises(InputError, match="twice"):
            filled.update_vectors(NAME, "raw", [0, 0], X[:2])
        assert filled.count(NAME) == N

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_numbers_that_are_not_finite_are_refused_before_anything_is_written(
        self, filled: Store, value: float
    ) -> None:
        bad = X[:3].copy()
        bad[1, 5] = value
        with pytest.raises(InputError, match="row 1"):
            filled.upsert(NAME, [900, 901, 902], {"raw": bad}, [{}, {}, {}])
        with pytest.raises(InputError, match="row 1"):
            filled.update_vectors(NAME, "raw", IDS[:3], bad)
        with pytest.raises(InputError, match="row 1"):
            filled.query_batch(NAME, bad, using="raw", k=1)
        assert filled.count(NAME) == N
        np.testing.assert_allclose(
            filled.retrieve(NAME, IDS, vectors=["raw"]).vectors["raw"], UNIT, atol=ATOL
        )

    @pytest.mark.parametrize(
        ("vectors", "n_payloads"),
        [
            ({"raw": X[:2, :5]}, 2),
            ({"raw": X[:1]}, 2),
            ({"raw": X[0]}, 2),
            ({"raw": X[:2]}, 1),
            ({}, 2),
        ],
    )
    def test_arrays_of_another_shape_are_refused_before_anything_is_written(
        self, filled: Store, vectors: dict[str, Floats], n_payloads: int
    ) -> None:
        with pytest.raises(InputError):
            filled.upsert(NAME, [900, 901], vectors, [{}] * n_payloads)
        assert filled.count(NAME) == N

    def test_a_vector_the_collection_lacks_is_not_found(self, filled: Store) -> None:
        for act in (
            lambda: filled.upsert(NAME, [900], {"pca": X[:1]}, [{}]),
            lambda: filled.update_vectors(NAME, "pca", [0], X[:1]),
            lambda: list(filled.scroll(NAME, vectors=["pca"])),
            lambda: filled.retrieve(NAME, [0], vectors=["pca"]),
            lambda: filled.query_batch(NAME, X[:1], using="pca", k=1),
            lambda: filled.delete_vector(NAME, "pca"),
        ):
            with pytest.raises(NotFound, match="pca"):
                act()

    def test_deleting_ignores_absent_points(self, filled: Store) -> None:
        filled.delete(NAME, [IDS[0], IDS[-1], 12345])
        assert filled.count(NAME) == N - 2
        assert filled.retrieve(NAME, [IDS[0], IDS[1]]).ids == [IDS[1]]

    def test_payload_is_merged_and_vectors_stay(self, filled: Store) -> None:
        filled.set_payload(NAME, IDS[:2], {"label": "z", "new": [1, 2]})
        assert payload_of(filled, IDS[1]) == {**PAYLOADS[1], "label": "z", "new": [1, 2]}
        assert payload_of(filled, IDS[2]) == PAYLOADS[2]
        np.testing.assert_allclose(
            filled.retrieve(NAME, IDS, vectors=["raw"]).vectors["raw"], UNIT, atol=ATOL
        )

    def test_payload_of_absent_points_is_not_found(self, filled: Store) -> None:
        with pytest.raises(NotFound, match="12345"):
            filled.set_payload(NAME, [12345], {"a": 1})

    # named vectors

    def test_a_vector_is_added_and_filled_while_all_else_stays(self, filled: Store) -> None:
        before = filled.retrieve(NAME, IDS, vectors=["raw"], payload=True)
        filled.add_vector(NAME, "pca", VectorSpec(3))
        assert filled.count(NAME, Filter(has_vector="pca")) == 0
        filled.update_vectors(NAME, "pca", IDS[:40], X[:40, :3])
        after = filled.retrieve(NAME, IDS, vectors=["raw", "pca"], payload=True)
        np.testing.assert_array_equal(after.vectors["raw"], before.vectors["raw"])
        assert after.payloads == before.payloads
        np.testing.assert_allclose(after.vectors["pca"][:40], unit_rows(X[:40, :3]), atol=ATOL)
        assert np.isnan(after.vectors["pca"][40:]).all()
        assert filled.count(NAME, Filter(has_vector="pca")) == 40
        assert filled.count(NAME, Filter(lacks_vector="pca")) == N - 40
        assert filled.info(NAME).vectors == {"raw": VectorSpec(D), "pca": VectorSpec(3)}

    def test_the_points_that_lack_a_vector_can_be_scrolled_while_it_is_filled(
        self, filled: Store
    ) -> None:
        filled.add_vector(NAME, "pca", VectorSpec(3))
        seen = []
        for page in filled.scroll(
            NAME, vectors=["raw"], where=Filter(lacks_vector="pca"), batch_size=7
        ):
            filled.update_vectors(NAME, "pca", page.ids, page.vectors["raw"][:, :3])
            seen += page.ids
        assert seen == in_id_order(IDS)
        assert filled.count(NAME, Filter(lacks_vector="pca")) == 0

    def test_adding_the_same_vector_again_changes_nothing(self, filled: Store) -> None:
        filled.add_vector(NAME, "pca", VectorSpec(3))
        filled.update_vectors(NAME, "pca", IDS[:5], X[:5, :3])
        filled.add_vector(NAME, "pca", VectorSpec(3))
        assert filled.count(NAME, Filter(has_vector="pca")) == 5

    def test_another_definition_of_a_vector_is_a_conflict(self, filled: Store) -> None:
        filled.add_vector(NAME, "pca", VectorSpec(3))
        for other in (VectorSpec(4), VectorSpec(3, "Dot")):
            with pytest.raises(Conflict, match="pca"):
                filled.add_vector(NAME, "pca", other)
        with pytest.raises(Conflict, match="raw"):
            filled.add_vector(NAME, "raw", VectorSpec(3))

    def test_a_deleted_vector_is_gone_and_does_not_return_with_its_name(
        self, filled: Store
    ) -> None:
        filled.add_vector(NAME, "pca", VectorSpec(3))
        filled.update_vectors(NAME, "pca", IDS, X[:, :3])
        filled.delete_vector(NAME, "pca")
        assert filled.info(NAME).vectors == RAW
        filled.add_vector(NAME, "pca", VectorSpec(2))
        assert filled.count(NAME, Filter(has_vector="pca")) == 0
        assert filled.count(NAME, Filter(has_vector="raw")) == N

    def test_updating_an_absent_point_is_not_found(self, filled: Store) -> None:
        with pytest.raises(NotFound, match="12345"):
            filled.update_vectors(NAME, "raw", [12345], X[:1])
        assert filled.count(NAME) == N

    def test_a_vector_that_a_point_has_is_kept_where_only_those_that_lack_it_are_meant(
        self, filled: Store
    ) -> None:
        filled.add_vector(NAME, "pca", VectorSpec(3))
        filled.update_vectors(NAME, "pca", IDS[:2], X[:2, :3])
        filled.update_vectors(NAME, "pca", IDS[:4], X[4:8, :3], only_lacking=True)
        found = filled.retrieve(NAME, IDS[:4], vectors=["pca"]).vectors["pca"]
        expected = X[[0, 1, 6, 7], :3]
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(found, expected, atol=ATOL)
        filled.update_vectors(NAME, "raw", IDS[:1], X[1:2], only_lacking=True)
        assert filled.count(NAME, Filter(has_vector="pca")) == 4
        raw = filled.retrieve(NAME, IDS[:1], vectors=["raw"]).vectors["raw"]
        np.testing.assert_allclose(raw, UNIT[:1], atol=ATOL)

    def test_an_absent_point_is_not_found_either_where_only_those_that_lack_it_are_meant(
        self, filled: Store
    ) -> None:
        with pytest.raises(NotFound, match="12345"):
            filled.update_vectors(NAME, "raw", [12345], X[:1], only_lacking=True)

    def test_updates_without_waiting_arrive(self, filled: Store) -> None:
        filled.update_vectors(NAME, "raw", IDS[:30], X[30:], wait=False)
        filled.update_vectors(NAME, "raw", IDS[30:], X[:30])
        stored = filled.retrieve(NAME, IDS, vectors=["raw"]).vectors["raw"]
        np.testing.assert_allclose(stored, np.roll(UNIT, -30, axis=0), atol=ATOL)

    def test_an_added_vector_is_set_up_and_a_repeat_sets_what_lacks(self, filled: Store) -> None:
        wanted = {
            "on_disk": True,
            "hnsw_config": {"m": 24, "ef_construct": 64},
            "quantization_config": {"scalar": {"type": "int8", "always_ram": True}},
        }
        filled.add_vector(NAME, "pca", VectorSpec(3))
        filled.update_vectors(NAME, "pca", IDS, X[:, :3])
        before = [scrolled(filled, name)[1] for name in ("raw", "pca")]
        for _ in range(2):  # as after a kill between the name and its settings; then nothing
            filled.add_vector(NAME, "pca", VectorSpec(3), wanted)
            told = filled.settings(NAME).get("vectors", {})
            assert says(told.get("pca", {}), wanted) == self.sets_up_vectors
            assert says(filled.info(NAME).settings.get("vectors", {}), told)
            assert not told.get("raw")
        filled.add_vector(NAME, "oti", VectorSpec(2, datatype="float16"), {"on_disk": True})
        told = filled.settings(NAME).get("vectors", {})
        assert says(told.get("oti", {}), {"on_disk": True}) == self.sets_up_vectors
        assert says(told.get("pca", {}), wanted) == self.sets_up_vectors
        after = [scrolled(filled, name)[1] for name in ("raw", "pca")]
        np.testing.assert_array_equal(np.hstack(after), np.hstack(before))
        assert filled.query_batch(NAME, X[:1, :3], using="pca", k=1).ids == [[IDS[0]]]

    def test_a_collection_is_made_as_the_settings_of_another_tell(self, store: Store) -> None:
        own = {"on_disk": True, "quantization_config": {"binary": {"always_ram": True}}}
        store.create("first", RAW, options={"vectors": {"raw": own}})
        told = store.settings("first")
        assert told["vectors"]["raw"] == own
        options = {key: told[key] for key in ("vectors", "hnsw_config") if key in told}
        store.create(NAME, RAW, options=options)
        assert store.settings(NAME)["vectors"] == told["vectors"]

    def test_the_unnamed_vector_of_foreign_collections_works(self, store: Store) -> None:
        store.create(NAME, {UNNAMED: VectorSpec(D)})
        store.upsert(NAME, IDS, {UNNAMED: X}, PAYLOADS)
        assert store.info(NAME).vectors == {UNNAMED: VectorSpec(D)}
        ids, stored = scrolled(store, UNNAMED)
        assert ids == in_id_order(IDS)
        np.testing.assert_allclose(stored, UNIT[[IDS.index(i) for i in ids]], atol=ATOL)
        assert store.count(NAME, Filter(has_vector=UNNAMED)) == N
        hits = store.query_batch(NAME, X[:2], using=UNNAMED, k=1)
        assert hits.ids == [[IDS[0]], [IDS[1]]]

    def test_a_named_vector_stands_beside_the_unnamed_one(self, store: Store) -> None:
        store.create(NAME, {UNNAMED: VectorSpec(D)})
        store.upsert(NAME, IDS, {UNNAMED: X}, PAYLOADS)
        store.add_vector(NAME, "pca", VectorSpec(3))
        store.update_vectors(NAME, "pca", IDS[1:], X[1:, :3])
        store.update_vectors(NAME, UNNAMED, IDS[:1], X[1:2])
        page = store.retrieve(NAME, IDS[:2], vectors=[UNNAMED, "pca"])
        np.testing.assert_allclose(page.vectors[UNNAMED], UNIT[[1, 1]], atol=ATOL)
        np.testing.assert_allclose(page.vectors["pca"][1], unit_rows(X[1:2, :3])[0], atol=ATOL)
        assert np.isnan(page.vectors["pca"][0]).all()

    # reading

    @pytest.mark.parametrize("batch_size", [1, 7, N, 1000])
    def test_scrolling_gives_every_point_once_in_id_order(
        self, filled: Store, batch_size: int
    ) -> None:
        ids, stored = scrolled(filled, batch_size=batch_size)
        assert ids == in_id_order(IDS)
        np.testing.assert_allclose(stored, UNIT[[IDS.index(i) for i in ids]], atol=ATOL)

    def test_scrolling_goes_on_after_a_page(self, filled: Store) -> None:
        first = next(filled.scroll(NAME, batch_size=13))
        rest = [
            i for p in filled.scroll(NAME, batch_size=13, offset=first.next_offset) for i in p.ids
        ]
        assert first.ids + rest == in_id_order(IDS)

    def test_the_last_page_has_no_next_offset(self, filled: Store) -> None:
        assert [p.next_offset is None for p in filled.scroll(NAME, batch_size=30)] == [False, True]

    def test_a_vector_is_everywhere_where_every_replica_has_it(self, filled: Store) -> None:
        filled.add_vector(NAME, "pca", VectorSpec(2))
        some = list(IDS[1:4])
        filled.update_vectors(NAME, "pca", some, np.eye(3, 2, dtype=np.float32) + 1)
        found = filled.with_vector_everywhere(NAME, "pca", IDS)
        assert sorted(found, key=str) == sorted(some, key=str)
        assert filled.n_replicas(NAME) == 1
        assert filled.inactive_replicas(NAME) == []

    @pytest.mark.parametrize("where", [None, Filter(ids=IDS[::2])], ids=["all", "some"])
    def test_a_scan_gives_what_scrolling_gives(self, filled: Store, where: Filter | None) -> None:
        wanted: dict[str, Any] = {"vectors": ["raw"], "payload": True, "where": where}
        ours, plain = (
            list(read(NAME, batch_size=9, **wanted)) for read in (filled.scan, filled.scroll)
        )
        assert [i for page in ours for i in page.ids] == [i for page in plain for i in page.ids]
        told, expected = ([x for page in read for x in page.payloads] for read in (ours, plain))
        assert told == expected
        X, Y = (np.concatenate([page.vectors["raw"] for page in read]) for read in (ours, plain))
        np.testing.assert_array_equal(X, Y)

    def test_scrolling_an_empty_collection_gives_no_page(self, store: Store) -> None:
        store.create(NAME, RAW)
        assert list(store.scroll(NAME, vectors=["raw"])) == []
        assert list(store.scan(NAME, vectors=["raw"])) == []

    def test_only_the_payload_asked_for_is_sent(self, filled: Store) -> None:
        by_id = dict(zip(IDS, PAYLOADS, strict=True))
        for wanted in (["n"], ["n", "label"], ["absent"]):
            (page,) = filled.scroll(NAME, payload=wanted)
            expected = [{k: by_id[i][k] for k in wanted if k in by_id[i]} for i in page.ids]
            assert page.payloads == expected
        pages = list(filled.scroll(NAME, payload=True))
        assert [p for page in pages for p in page.payloads] == [
            by_id[i] for page in pages for i in page.ids
        ]
        (page,) = filled.scroll(NAME)
        assert page.payloads == [{}] * N
        assert page.vectors == {}

    def test_retrieving_keeps_the_order_and_leaves_out_the_absent(self, filled: Store) -> None:
        wanted = [IDS[40], 12345, IDS[3], IDS[41]]
        page = filled.retrieve(NAME, wanted, vectors=["raw"], payload=["n"])
        assert page.ids == [IDS[40], IDS[3], IDS[41]]
        assert [p["n"] for p in page.payloads] == [40, 3, 41]
        np.testing.assert_allclose(page.vectors["raw"], UNIT[[40, 3, 41]], atol=ATOL)
        assert filled.retrieve(NAME, [12345], vectors=["raw"]).vectors["raw"].shape == (0, D)

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            (Filter(), lambda i, p: True),
            (Filter(equals={"label": "a"}), lambda i, p: p["label"] == "a"),
            (Filter(equals={"label": ["a", "c"]}), lambda i, p: p["label"] in "ac"),
            (Filter(equals={"label": []}), lambda i, p: False),
            (Filter(equals={"n": 7}), lambda i, p: p["n"] == 7),
            (Filter(equals={"n": [7, 8, 999]}), lambda i, p: p["n"] in (7, 8)),
            (Filter(equals={"n": np.arange(5)}), lambda i, p: p["n"] < 5),
            (Filter(equals={"n": 7, "label": "a"}), lambda i, p: False),
            (Filter(equals={"n": 7, "label": "b"}), lambda i, p: p["n"] == 7),
            (Filter(equals={"is_even": True}), lambda i, p: p["is_even"]),
            (Filter(equals={"is_even": [True, False]}), lambda i, p: True),
            (Filter(equals={"weight": 1.25}), lambda i, p: p["weight"] == 1.25),
            (Filter(equals={"absent": None}), lambda i, p: True),
            (Filter(equals={"label": None}), lambda i, p: False),
            (Filter(equals={"nested.text": "ü€"}), lambda i, p: True),
            (Filter(ids=[IDS[2], IDS[50], 12345]), lambda i, p: i in (IDS[2], IDS[50])),
            (Filter(ids=[]), lambda i, p: False),
            (Filter(ids=IDS[:9], equals={"label": "a"}), lambda i, p: p["n"] in (0, 3, 6)),
            (Filter(has_vector="raw"), lambda i, p: True),
            (Filter(lacks_vector="raw"), lambda i, p: False),
        ],
    )  # fmt: skip
    def test_filters_select_the_same_points_for_count_scroll_and_search(
        self, filled: Store, where: Filter, expected: Any
    ) -> None:
        matching = [i for i, p in zip(IDS, PAYLOADS, strict=True) if expected(i, p)]
        assert filled.count(NAME, where) == len(matching)
        found = [i for page in filled.scroll(NAME, where=where) for i in page.ids]
        assert found == in_id_order(matching)
        (ranked,) = filled.query_batch(NAME, X[:1], using="raw", k=N, where=where).ids
        assert sorted(ranked, key=str) == sorted(matching, key=str)

    def test_two_conditions_on_one_field_must_both_hold(self, store: Store) -> None:
        store.create(NAME, RAW)
        tags: list[Any] = [["a", "b"], ["a"], ["b"], "a", None]
        store.upsert(NAME, IDS[:5], {"raw": X[:5]}, [{"tags": value} for value in tags])
        a, b = Filter({"tags": "a"}), Filter({"tags": ["b", "c"]})
        assert [store.count(NAME, where) for where in (a, b, a & b)] == [3, 2, 1]
        assert [store.count(NAME, a & b & Filter(ids=IDS[i:5])) for i in (0, 1)] == [1, 0]
        (found,) = store.query_batch(NAME, X[:1], using="raw", k=5, where=b & a).ids
        assert found == [IDS[0]]

    def test_a_filter_on_something_that_is_no_value_is_refused(self, filled: Store) -> None:
        with pytest.raises(InputError, match="label"):
            filled.count(NAME, Filter(equals={"label": {"a": 1}}))

    @pytest.mark.parametrize("field", ODD_FIELDS)
    def test_a_field_may_have_any_name_that_qdrant_can_spell(
        self, store: Store, field: str
    ) -> None:
        store.create(NAME, RAW)
        payloads: list[Any] = [{field: "here"}, {field: "there"}, {"other": 1}]
        store.upsert(NAME, IDS[:3], {"raw": X[:3]}, payloads)
        for _ in range(2):
            store.ensure_index(NAME, field, "keyword")
        counts = [store.count(NAME, Filter({field: value})) for value in ("here", ["here", None])]
        assert counts == [1, 2]
        (page,) = store.scroll(NAME, payload=[field])
        by_id = dict(zip(page.ids, page.payloads, strict=True))
        assert [by_id[i] for i in IDS[:3]] == [{field: "here"}, {field: "there"}, {}]
        table = ImageCollection.open(store, NAME).table(["raw"], payload=[field])
        assert dict(zip(table.ids, table.payload[field], strict=True)) == dict(
            zip(IDS[:3], ["here", "there", None], strict=True)
        )

    def test_a_name_with_a_dot_is_a_key_or_a_path(self, store: Store) -> None:
        store.create(NAME, RAW)
        payloads: list[Any] = [{"a.b": "x"}, {"a": {"b": "x"}}, {"a": "x", "b": "x"}, {"a": [1]}]
        store.upsert(NAME, IDS[:4], {"raw": X[:4]}, payloads)
        assert store.count(NAME, Filter({"a.b": "x"})) == 2
        assert store.count(NAME, Filter({"a.b": None})) == 2
        assert store.count(NAME, Filter({'"a.b"': "x"})) == 1  # as Qdrant writes a key
        table = ImageCollection.open(store, NAME).table(["raw"], payload=["a.b"])
        values = dict(zip(table.ids, table.payload["a.b"], strict=True))
        assert [values[i] for i in IDS[:4]] == ["x", "x", None, None]

    @pytest.mark.parametrize("field", ['7" disc', "back\\slash", '"q" x'])
    def test_a_field_that_cannot_be_spelled_is_read_but_not_searched(
        self, store: Store, field: str
    ) -> None:
        store.create(NAME, RAW)
        store.upsert(NAME, IDS[:2], {"raw": X[:2]}, [{field: "x"}, {"other": 1}])
        for act in (
            lambda: store.count(NAME, Filter({field: "x"})),
            lambda: store.ensure_index(NAME, field, "keyword"),
        ):
            with pytest.raises(InputError, match="quotation mark"):
                act()
        table = ImageCollection.open(store, NAME).table(["raw"], payload=[field])
        assert sorted(table.payload[field], key=str) == [None, "x"]

    # search

    def test_exact_search_equals_the_matrix_product(self, filled: Store) -> None:
        scores = UNIT @ UNIT.T
        hits = filled.query_batch(NAME, X, using="raw", k=10)
        for row in range(N):
            order = np.argsort(-scores[row])[:10]
            assert hits.ids[row] == [IDS[i] for i in order]
            np.testing.assert_allclose(hits.scores[row], scores[row, order], atol=1e-6)
            assert hits.scores[row].dtype == np.float32

    def test_a_query_never_finds_the_excluded_point(self, filled: Store) -> None:
        filled.upsert(NAME, [900], {"raw": X[:1]}, [{}])  # a duplicate picture
        hits = filled.query_batch(NAME, X[:3], using="raw", k=N, exclude=[IDS[0], None, IDS[2]])
        assert IDS[0] not in hits.ids[0]
        assert hits.ids[0][0] == 900
        assert hits.ids[1][0] == IDS[1]
        assert IDS[2] not in hits.ids[2]
        assert [len(ids) for ids in hits.ids] == [N, N, N]

    def test_fewer_points_than_asked_give_shorter_rows(self, filled: Store) -> None:
        hits = filled.query_batch(NAME, X[:2], using="raw", k=500, where=Filter(ids=IDS[:4]))
        assert [len(ids) for ids in hits.ids] == [4, 4]
        assert [len(scores) for scores in hits.scores] == [4, 4]

    def test_no_queries_give_no_answers(self, filled: Store) -> None:
        assert filled.query_batch(NAME, X[:0], using="raw", k=3) == Hits([], [])

    def test_equal_scores_are_ranked_by_id_whatever_the_order_of_insertion(
        self, store: Store
    ) -> None:
        ids: list[PointId] = [10, 9, 2, point_id("a", "x"), point_id("a", "y"), 100]
        store.create(NAME, RAW)
        for some in (ids[:3], ids[3:]):
            same = np.repeat(X[:1], len(some), axis=0)
            store.upsert(NAME, some, {"raw": same}, [{}] * len(some))
        expected = in_id_order(ids)
        for k in range(1, len(ids) + 1):
            assert store.query_batch(NAME, X[:1], using="raw", k=k).ids == [expected[:k]]

    def test_many_equals_at_the_cut_are_ranked_by_id(self, store: Store) -> None:
        ids = list(np.random.default_rng(2).permutation(200))
        store.create(NAME, RAW)
        store.upsert(NAME, ids, {"raw": np.repeat(X[:1], 200, axis=0)}, [{}] * 200)
        assert store.query_batch(NAME, X[1:2], using="raw", k=3).ids == [[0, 1, 2]]

    def test_nearest_comes_first_under_euclid(self, store: Store) -> None:
        store.create(NAME, {"raw": VectorSpec(D, "Euclid")})
        store.upsert(NAME, IDS, {"raw": X}, PAYLOADS)
        (ids,) = store.query_batch(NAME, X[:1], using="raw", k=5).ids
        distances = np.linalg.norm(X - X[0], axis=1)
        assert ids == [IDS[i] for i in np.argsort(distances)[:5]]

    def test_two_stages_rank_the_candidates_of_the_first_by_the_second(self, store: Store) -> None:
        store.create(NAME, {"raw": VectorSpec(D), "pca": VectorSpec(2)})
        store.upsert(NAME, IDS, {"raw": X, "pca": X[:, :2]}, PAYLOADS)
        small = unit_rows(X[:, :2])
        for row in range(5):
            others = [i for i in range(N) if i != row]
            candidates = sorted(others, key=lambda i: -float(small[i] @ small[row]))[:12]
            expected = sorted(candidates, key=lambda i: -float(UNIT[i] @ UNIT[row]))[:4]
            hits = store.query_batch(
                NAME, X[row : row + 1], using="raw", k=4, exclude=[IDS[row]],
                params={"prefetch": {"using": "pca", "limit": 12, "Q": X[row : row + 1, :2]}},
            )  # fmt: skip
            assert hits.ids == [[IDS[i] for i in expected]]

    @pytest.mark.parametrize("weights", [None, (1.0, 1.0), (2.5, 0.7), (0.5, 1.5)])
    def test_a_fused_search_ranks_by_the_places_in_both_lists(
        self, store: Store, weights: tuple[float, float] | None
    ) -> None:
        store.create(NAME, {"raw": VectorSpec(D, "Euclid"), "pca": VectorSpec(2)})
        store.upsert(NAME, IDS, {"raw": X, "pca": X[:, :2]}, PAYLOADS)
        small, limit = unit_rows(X[:, :2]), 9
        for row in range(5):
            scores: dict[int, float] = {}
            lists = (-np.linalg.norm(X - X[row], axis=1), small @ small[row])
            for weight, similarity in zip(weights or (1, 1), lists, strict=True):
                for place, i in enumerate(np.argsort(-similarity)[:limit]):
                    part = weight / (1 + weight + place)
                    scores[int(i)] = scores.get(int(i), 0.0) + part
            expected = sorted(scores, key=lambda i: (-round(scores[i], 6), id_order(IDS[i])))
            (ids,), (given,) = self._fused(store, row, limit, weights)
            assert ids == [IDS[i] for i in expected[:limit]]
            wanted = [scores[i] for i in expected[:limit]]
            np.testing.assert_allclose(given, wanted, rtol=1e-6)  # float32

    def _fused(
        self, store: Store, row: int, k: int, weights: tuple[float, float] | None
    ) -> tuple[list[Any], list[Any]]:
        fuse: dict[str, Any] = {"using": "pca", "limit": k, "Q": X[row : row + 1, :2]}
        fuse |= {} if weights is None else {"weights": weights}
        hits = store.query_batch(NAME, X[row : row + 1], using="raw", k=k, params={"fuse": fuse})
        return hits.ids, hits.scores

    def test_search_parameters_are_taken(self, filled: Store) -> None:
        hits = filled.query_batch(
            NAME, X[:1], using="raw", k=1, exact=False, params={"hnsw_ef": 64}
        )
        assert hits.ids == [[IDS[0]]]

    @pytest.mark.parametrize(
        "change",
        [
            {"k": 0},
            {"Q": X[0]},
            {"Q": X[:2, :3]},
            {"exclude": [1]},
            {"params": {"ef": 3}},
            {"params": {"prefetch": {"limit": 3}}},
            {"params": {"prefetch": {"using": "raw", "limit": 1}}},
            {"params": {"fuse": {"using": "raw", "limit": 1}}},
            {"params": {"prefetch": {"using": "raw", "limit": 9, "weights": (2, 1)}}},
            *(
                {"params": {"fuse": {"using": "raw", "limit": 9, "weights": weights}}}
                for weights in [(1,), (1, 2, 3), (0, 1), (1, -1), (np.nan, 1), (1, np.inf)]
            ),
            {"params": {key: {"using": "raw", "limit": 3} for key in ("fuse", "prefetch")}},
        ],
    )
    def test_searches_that_cannot_be_meant_are_refused(
        self, filled: Store, change: dict[str, Any]
    ) -> None:
        options = {"Q": X[:2], "using": "raw", "k": 2, **change}
        with pytest.raises(InputError):
            filled.query_batch(NAME, **options)

    # indexes, aliases, life

    def test_an_index_is_listed_and_may_be_asked_for_twice(self, filled: Store) -> None:
        for _ in range(2):
            filled.ensure_index(NAME, "label", "keyword")
            filled.ensure_index(NAME, "n", "integer")
        assert filled.info(NAME).indexes == {"label": "keyword", "n": "integer"}
        assert filled.count(NAME, Filter(equals={"label": "a"})) == N // 3

    def test_an_unknown_kind_of_index_is_refused(self, filled: Store) -> None:
        with pytest.raises(InputError, match="keyword"):
            filled.ensure_index(NAME, "label", "fulltext")  # type: ignore[arg-type]

    def test_an_alias_reads_and_writes_its_collection(self, filled: Store) -> None:
        filled.set_alias("shown", NAME)
        assert filled.aliases() == {"shown": NAME}
        assert filled.exists("shown")
        filled.upsert("shown", [900], {"raw": X[:1]}, [{}])
        assert filled.info("shown").n_points == filled.count(NAME) == N + 1
        assert filled.query_batch("shown", X[1:2], using="raw", k=1).ids == [[IDS[1]]]

    def test_an_alias_is_moved_and_deleted(self, filled: Store) -> None:
        filled.create("other", RAW)
        filled.set_alias("shown", NAME)
        filled.set_alias("shown", "other")
        assert filled.count("shown") == 0
        filled.delete_alias("shown")
        assert filled.aliases() == {}
        assert filled.count(NAME) == N

    def test_an_alias_cannot_take_the_name_of_a_collection(self, filled: Store) -> None:
        filled.create("other", RAW)
        with pytest.raises(Conflict, match=NAME):
            filled.set_alias(NAME, "other")
        assert filled.count(NAME) == N

    def test_aliases_move_together_or_not_at_all(self, filled: Store) -> None:
        filled.create("other", RAW)
        filled.set_aliases({"shown": NAME, "listed": NAME})
        with pytest.raises(Conflict):
            filled.set_aliases({"shown": "other", NAME: "other"})
        with pytest.raises(NotFound):
            filled.set_aliases({"shown": "other", "listed": "absent"})
        assert filled.aliases() == {"shown": NAME, "listed": NAME}
        filled.set_aliases({"shown": "other", "listed": "other"})
        assert filled.aliases() == {"shown": "other", "listed": "other"}

    def test_a_collection_can_be_created_as_another_one_is_set_up(self, filled: Store) -> None:
        filled.ensure_index(NAME, "label", "keyword")
        filled.create("other", RAW, options=filled.settings(NAME))
        for _ in range(2):
            filled.copy_indexes(NAME, "other")
        assert filled.settings("other") == filled.settings(NAME)
        assert filled.info("other").indexes == {"label": "keyword"}

    def test_an_index_that_is_there_is_not_replaced_by_a_copied_one(self, filled: Store) -> None:
        filled.ensure_index(NAME, "n", "integer")
        filled.create("other", RAW)
        filled.ensure_index("other", "n", "float")
        filled.copy_indexes(NAME, "other")
        assert filled.info("other").indexes == {"n": "float"}

    def test_optimizing_changes_no_answer(self, filled: Store) -> None:
        before = filled.query_batch(NAME, X[:9], using="raw", k=5)
        filled.optimize(NAME, deadline_s=60)
        after = filled.query_batch(NAME, X[:9], using="raw", k=5)
        assert after.ids == before.ids
        assert filled.info(NAME).status == "green"
        assert filled.count(NAME) == N

    def test_it_describes_itself(self, store: Store) -> None:
        described = store.describe()
        assert described["location"] == store.location
        assert described["version"][0].isdigit()
        assert store.location in repr(store)

    def test_a_closed_store_says_so_and_closes_twice(self, filled: Store) -> None:
        filled.close()
        filled.close()
        with pytest.raises(StoreError, match="closed"):
            filled.count(NAME)
