from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intramodal.ingest.decode import decode_image
from intramodal.ingest.pipeline import ingest_images
from intramodal.ingest.sources.formats import open_source
from intramodal.projection.projection import Projection
from intramodal.store.base import Store
from intramodal.types import ImageRecord, point_id, unit_rows
from tests.plain_encoder import DIM, SIDE, PlainEncoder, collection_for
from tests.unit.ingest.pipeline_kit import N, broken, contents, counts, png, record, records

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


# What is written


def test_every_picture_gets_both_vectors_and_its_payload(
    store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    collection = collection_for(store, encoder, projection)
    summary = ingest_images(records(), collection, encoder=encoder, projection=projection)
    assert counts(summary) == (N, 0, 0, 0, 0)
    assert collection.count() == N
    for n in (0, 1, N - 1):
        key, data = f"{n:05}.png", png(n)
        page = store.retrieve(
            "photos", [point_id("photos", key)], vectors=["raw", "pca"], payload=True
        )
        assert page.payloads == [
            {
                "path": key,
                "label": f"l{n % 3}",
                "sha256": hashlib.sha256(data).hexdigest(),
                "dataset": "photos",
            }
        ]
        raw = encoder.vector(encoder.preprocess(decode_image(data, target=SIDE)))[None]
        # stored as float32 of unit length
        np.testing.assert_allclose(page.vectors["raw"], raw, atol=1e-6)
        expected = unit_rows(projection.apply(raw))
        np.testing.assert_allclose(page.vectors["pca"], expected, atol=1e-6)


def test_batches_are_full_and_do_not_change_the_vectors(
    store: Store, encoder: PlainEncoder
) -> None:
    some = collection_for(store, encoder, name="some")
    ingest_images(records(), some, encoder=encoder)
    assert encoder.batches == [32, 32, N - 64]
    other = collection_for(store, encoder, name="other")
    ingest_images(records(), other, encoder=encoder, batch_size=9, workers=3)
    rows = [{k: v[2] for k, v in contents(collection).items()} for collection in (some, other)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(("workers", "expected"), [(0, {"MainThread"}), (1, {"decode-0"})])
def test_decoding_happens_in_the_workers(
    store: Store, encoder: PlainEncoder, workers: int, expected: set[str]
) -> None:
    ingest_images(records(), collection_for(store, encoder), encoder=encoder, workers=workers)
    assert encoder.threads == expected


def test_indexes_are_there_before_the_first_picture_is(
    store: Store, encoder: PlainEncoder
) -> None:
    collection = collection_for(store, encoder)
    seen: list[dict[str, str]] = []

    class Looking(PlainEncoder):
        def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
            seen.append(dict(collection.info().indexes))
            return super().encode_pixels(pixels)

    ingest_images(records(), collection, encoder=Looking())
    assert seen[0] == {"dataset": "keyword", "label": "keyword"}


def test_the_index_of_numbered_labels_takes_numbers_and_a_made_one_stays(
    store: Store, encoder: PlainEncoder
) -> None:
    numbered = collection_for(store, encoder, name="numbered")
    ingest_images([record(1, label=7)], numbered, encoder=encoder)
    assert numbered.info().indexes["label"] == "integer"
    mine = collection_for(store, encoder, name="mine")
    store.ensure_index("mine", "label", "integer")
    ingest_images(records(3), mine, encoder=encoder)
    assert mine.info().indexes == {"dataset": "keyword", "label": "integer"}


def test_the_summary_is_json(store: Store, encoder: PlainEncoder) -> None:
    source = [*records(3), broken(1)]
    summary = ingest_images(source, collection_for(store, encoder), encoder=encoder)
    plain = json.loads(json.dumps(summary.to_dict()))
    assert plain.pop("seconds") >= 0
    reason = "not an image, or cut off within its header"
    assert plain == {
        "collection": "photos", "written": 3, "skipped": 0, "updated": 0, "projected": 0,
        "failed": 1, "pruned": 0,
        "failures": [{"item": "broken-1.png", "stage": "decode", "reason": reason}],
        "replicas": {}, "notes": [], "stale": {},
    }  # fmt: skip


# What is not done again


def test_a_repeat_encodes_and_changes_nothing(
    store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    collection = collection_for(store, encoder, projection)
    ingest_images(records(), collection, encoder=encoder, projection=projection)
    before = contents(collection, ["raw", "pca"])
    again = ingest_images(records(), collection, encoder=encoder, projection=projection)
    assert counts(again) == (0, N, 0, 0, 0)
    assert encoder.n_encoded == N
    assert contents(collection, ["raw", "pca"]) == before


def test_a_changed_file_is_encoded_again_and_keeps_what_others_added(
    store: Store, encoder: PlainEncoder
) -> None:
    collection = collection_for(store, encoder)
    ingest_images(records(), collection, encoder=encoder)
    changed = point_id("photos", "00003.png")
    store.set_payload("photos", [changed], {"reviewed": True})
    source = records()
    source[3] = replace(source[3], read=lambda: png(999))
    summary = ingest_images(source, collection, encoder=encoder)
    assert counts(summary) == (1, N - 1, 0, 0, 0)
    assert encoder.n_encoded == N + 1
    _, payload, _ = contents(collection)["00003.png"]
    assert payload["sha256"] == hashlib.sha256(png(999)).hexdigest()
    assert payload["reviewed"] is True


def test_changed_payload_alone_is_written_without_encoding(
    store: Store, encoder: PlainEncoder
) -> None:
    collection = collection_for(store, encoder)
    ingest_images([record(n, old=n) for n in range(N)], collection, encoder=encoder)
    before = contents(collection)
    store.set_payload("photos", [before["00001.png"][0]], {"reviewed": True})
    source = [record(n, label="new" if n % 2 else f"l{n % 3}", old=None) for n in range(N)]
    summary = ingest_images(source, collection, encoder=encoder)
    assert counts(summary) == (0, 0, N, 0, 0)
    assert encoder.n_encoded == N
    after = contents(collection)
    assert {key: rows for key, (_, _, rows) in after.items()} == {
        key: rows for key, (_, _, rows) in before.items()
    }
    _, payload, _ = after["00001.png"]
    assert payload["label"] == "new"
    assert "old" not in payload
    assert payload["reviewed"] is True
    assert counts(ingest_images(source, collection, encoder=encoder)) == (0, N, 0, 0, 0)


def test_the_same_bytes_under_two_paths_are_two_points(
    store: Store, encoder: PlainEncoder
) -> None:
    collection = collection_for(store, encoder)
    twins = [ImageRecord(key, lambda: png(5)) for key in ("a.png", "b.png")]
    assert ingest_images(twins, collection, encoder=encoder).written == 2
    assert counts(ingest_images(twins, collection, encoder=encoder)) == (0, 2, 0, 0, 0)


def test_data_sets_do_not_touch_each_other(store: Store, encoder: PlainEncoder) -> None:
    collection = collection_for(store, encoder)
    ingest_images(records(5), collection, encoder=encoder)
    ingest_images(records(5), collection, encoder=encoder, dataset="more")
    assert collection.count() == 10
    page = store.retrieve("photos", [point_id("more", "00001.png")], payload=["dataset"])
    assert page.payloads == [{"dataset": "more"}]


@pytest.mark.parametrize("distance", [1, 300])
def test_a_picture_that_occurs_twice_is_written_once_and_listed(
    store: Store, encoder: PlainEncoder, distance: int
) -> None:
    collection = collection_for(store, encoder)
    source = records(distance)
    source.append(replace(record(0), read=lambda: png(77)))
    for _ in range(2):
        summary = ingest_images(source, collection, encoder=encoder)
        assert summary.failed == 1
        assert "occurs twice" in summary.failures[0]["reason"]
    assert counts(summary) == (0, distance, 0, 1, 0)


def test_pictures_that_are_gone_stay_unless_pruned(store: Store, encoder: PlainEncoder) -> None:
    collection = collection_for(store, encoder)
    ingest_images(records(), collection, encoder=encoder)
    ingest_images(records(5), collection, encoder=encoder, dataset="more")
    own = {"raw": np.ones((2, DIM), dtype=np.float32)}
    foreign = [{"dataset": "photos", "path": "00069.png"}, {"dataset": "photos"}]
    collection.write([7, point_id("elsewhere", "x")], own, foreign)
    rest = records(N - 20)
    assert counts(ingest_images(rest, collection, encoder=encoder)) == (0, N - 20, 0, 0, 0)
    assert collection.count() == N + 7
    assert counts(ingest_images(rest, collection, encoder=encoder, prune=True, yes=True)) == (
        0,
        N - 20,
        0,
        0,
        20,
    )
    assert collection.count() == N - 20 + 7
    assert ingest_images(rest, collection, encoder=encoder, prune=True).pruned == 0


def test_a_broken_picture_is_not_gone(store: Store, encoder: PlainEncoder) -> None:
    collection = collection_for(store, encoder)
    ingest_images(records(5), collection, encoder=encoder)
    source = records(5)
    source[2] = replace(source[2], read=lambda: b"")
    summary = ingest_images(source, collection, encoder=encoder, prune=True)
    assert counts(summary) == (0, 4, 0, 1, 0)
    assert collection.count() == 5


def test_nothing_is_pruned_when_parts_of_the_source_are_hidden(
    store: Store, encoder: PlainEncoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collection = collection_for(store, encoder)
    listed = tmp_path / "list.jsonl"
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(png(n))
    listed.write_text("".join(f'{{"path": "{n}.png"}}\n' for n in range(3)))
    ingest_images(open_source(str(listed)), collection, encoder=encoder)
    listed.write_text('{"path": "0.png"}\n{"path": "1.p\n')
    summary = ingest_images(open_source(str(listed)), collection, encoder=encoder, prune=True)
    assert counts(summary) == (0, 1, 0, 1, 0)
    assert "nothing is pruned" in caplog.text
