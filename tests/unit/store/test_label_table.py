"""A collection read with labels of a file: fields, filters, counts, searches (issue 20)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from intramodal import (
    Filter,
    ImageCollection,
    IndexSearch,
    LabelledCollection,
    compare,
    evaluate_index,
    evaluate_retrieval,
    open_store,
    parse_filter,
    read_labels,
)
from intramodal.errors import InputError, Unsupported
from intramodal.store import label_table
from intramodal.store.base import Store
from intramodal.store.manifest import VectorOrigin
from intramodal.types import PointId, point_id

N = 40
TENANTS = ("acme", "globex")
IDS: list[PointId] = [i if i % 2 else point_id("photos", f"{i}.jpg") for i in range(N)]


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store(":memory:") as opened:
        yield opened


@pytest.fixture
def photos(store: Store) -> ImageCollection:
    clip = VectorOrigin("clip", "3f9a")
    made = ImageCollection.create(store, "photos", {"raw": (4, clip), "pca": (4, clip)})
    X = np.random.default_rng(3).normal(size=(N, 4)).astype(np.float32)
    payloads = [{"tenant": TENANTS[i // 20], "kind": "payload"} for i in range(N)]
    made.write(IDS, {"raw": X, "pca": X[:, ::-1].copy()}, payloads)
    return made


def shape_of(i: int) -> str:
    return f"shape {i % 4}"


def csv_of(rows: range, *, id_of: Any = lambda i: IDS[i], column: str = "shape") -> io.BytesIO:
    lines = [f"{id_of(i)},{shape_of(i)},{'test' if i % 3 else 'train'}" for i in rows]
    return io.BytesIO("\n".join([f"id,{column},side", *lines, ""]).encode())


def labelled(photos: ImageCollection, rows: range = range(N), **how: Any) -> LabelledCollection:
    return LabelledCollection(photos, read_labels(csv_of(rows, **how), format="csv"))


def test_columns_of_the_file_are_fields_of_their_points(photos: ImageCollection) -> None:
    table = labelled(photos).table(["raw"], payload=["shape", "tenant"])
    found = dict(zip(table.ids, table.payload["shape"], strict=True))
    assert found == {point: shape_of(i) for i, point in enumerate(IDS)}
    assert set(table.payload["tenant"]) == set(TENANTS)


def test_the_name_that_an_ingest_has_made_an_id_of_is_one(photos: ImageCollection) -> None:
    names = labelled(photos, id_of=lambda i: i if i % 2 else f"{i}.jpg")
    found = names.table(["raw"], payload=["shape"])
    assert found.payload == labelled(photos).table(["raw"], payload=["shape"]).payload
    assert found.labels_from is not None
    assert found.labels_from["n_unknown"] == 0


def test_rows_without_a_point_and_points_without_a_row_are_counted(
    photos: ImageCollection,
) -> None:
    rows = labelled(photos, range(10, N + 7), id_of=lambda i: IDS[i] if i < N else 1000 + i)
    found = rows.table(["raw"], payload=["shape"]).labels_from
    assert found is not None
    assert (found["n_rows"], found["n_unknown"], found["n_without_row"]) == (37, 7, 10)
    # A part of the points is read: what the collection lacks is the same.
    acme = rows.table(["raw"], payload=["shape"], where=parse_filter(["tenant=acme"])).labels_from
    assert acme is not None
    assert (acme["n_unknown"], acme["n_without_row"]) == (7, 10)
    drawn = rows.table(["raw"], payload=["shape"], sample=20).labels_from
    assert drawn is not None
    assert drawn["n_unknown"] is None


def test_labels_of_another_collection_are_refused(photos: ImageCollection) -> None:
    other = labelled(photos, id_of=lambda i: 1000 + i)
    with pytest.raises(InputError, match=r"none of the 40 ids of <file>, such as 1000, is in"):
        other.table(["raw"], payload=["shape"])


def test_a_column_takes_the_place_of_the_payloads_field(photos: ImageCollection) -> None:
    table = labelled(photos, range(30), column="kind").table(["raw"], payload=["kind"])
    found = dict(zip(table.ids, table.payload["kind"], strict=True))
    assert found[IDS[3]] == "shape 3"
    assert found[IDS[35]] is None  # not the payload's: half and half would be no field
    assert table.labels_from is not None
    assert table.labels_from["also_in_payload"] == {"kind": N}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["shape=shape 1"], [i for i in range(N) if i % 4 == 1]),
        (["shape=shape 1,shape 2", "tenant=acme"], [i for i in range(20) if i % 4 in (1, 2)]),
        (["shape=shape 1", "side=train"], [i for i in range(N) if i % 4 == 1 and i % 3 == 0]),
        (["id=1,3,5", "shape=shape 1"], [1, 5]),
    ],
)
def test_filters_know_the_columns(
    photos: ImageCollection, where: list[str], expected: list[int]
) -> None:
    collection, filter_ = labelled(photos), parse_filter(where)
    wanted = {IDS[i] for i in expected}
    assert set(collection.table(["raw"], where=filter_).ids) == wanted
    pages = list(collection.scroll(vectors=["raw"], where=filter_))
    assert {point for page in pages for point in page.ids} == wanted
    assert all(len(page.vectors["raw"]) == len(page.ids) for page in pages)
    assert collection.count(filter_) == len(wanted)
    assert set(collection.draw(N, where=filter_)[0]) == wanted
    hits = collection.neighbours([1], using="raw", k=N, where=filter_)
    assert set(hits.ids[0]) == wanted - {1}


def test_points_without_a_value_can_be_filtered_but_not_searched(photos: ImageCollection) -> None:
    collection, absent = labelled(photos, range(30)), Filter({"shape": None})
    assert set(collection.table(["raw"], where=absent).ids) == set(IDS[30:])
    with pytest.raises(Unsupported, match="without a value in <file>, as shape=None does"):
        collection.neighbours([1], using="raw", k=3, where=absent)


def test_a_search_names_so_many_ids_and_no_more(
    photos: ImageCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_table, "MOST_SENT", 9)
    where = parse_filter(["shape=shape 1"])
    with pytest.raises(Unsupported, match=r"shape=shape 1 is in <file> .* ids of 10 points"):
        labelled(photos).neighbours([1], using="raw", where=where)
    # A comparison goes on without the figures of such searches.
    found = compare(
        labelled(photos), "raw", "pca", fields=["shape"], tasks=["retrieval"], sides="side"
    ).to_dict()
    assert found["cost"]["raw"]["n_probes"] == 0


def test_evaluations_take_queries_gallery_and_points_from_the_file(
    photos: ImageCollection,
) -> None:
    collection, where = labelled(photos), parse_filter(["shape=shape 1,shape 2", "tenant=acme"])
    table = collection.table(["raw"], payload=["shape", "side", "tenant"])
    how: Any = {"fields": ["shape"], "sides": "side", "where": where}
    found = evaluate_retrieval(collection, vectors=["raw"], **how)
    same = evaluate_retrieval(table, vectors=["raw"], **how)
    assert found["shape", "raw"].map == same["shape", "raw"].map
    assert found.to_dict()["labels_from"]["n_without_row"] == 0
    search = IndexSearch("raw", exact=True)
    (row,) = evaluate_index(collection, searches=[search], k=N, n_timed=1, **how).to_dict()["rows"]
    assert (row["recall"], row["n_outside"]) == (1.0, 0)
    assert row["map_at_k"] == pytest.approx(same["shape", "raw"].map)


def test_nested_columns_of_jsonl_are_found_by_their_path(photos: ImageCollection) -> None:
    file = io.BytesIO(b"".join(b'{"id": %d, "shot": {"by": "me"}}\n' % i for i in range(1, N, 2)))
    collection = LabelledCollection(photos, read_labels(file, format="jsonl"))
    table = collection.table(["raw"], payload=["shot.by"], where=parse_filter(["shot.by=me"]))
    assert table.payload["shot.by"] == ["me"] * (N // 2)


def test_nothing_of_the_file_can_be_written(photos: ImageCollection) -> None:
    collection = labelled(photos)
    with pytest.raises(InputError, match="is for reading; write to the collection itself"):
        collection.write([1], {}, [{}])
    evaluate_retrieval(collection, vectors=["raw"], fields=["shape"])
    pages = photos.scroll(payload=True)
    stored = {name for page in pages for payload in page.payloads for name in payload}
    assert stored == {"tenant", "kind"}
