from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError, IntramodalError, ManifestMismatchError, NotFound
from intramodal.ingest import workers as threads
from intramodal.ingest.failures import MOST_LISTED, Failures
from intramodal.ingest.pipeline import ingest_images
from intramodal.ingest.prune import Seen
from intramodal.projection.projection import Projection
from intramodal.runs.ledger import RunLedger
from intramodal.runs.records import FailureRecord
from intramodal.runs.run import Run
from intramodal.store.base import Store
from intramodal.store.open import open_store
from intramodal.types import ImageRecord, point_id
from tests.plain_encoder import PlainEncoder, collection_for, plain_projection
from tests.unit.ingest.pipeline_kit import N, broken, contents, counts, png, record, records

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


# What is refused


def test_another_model_is_refused(store: Store, encoder: PlainEncoder) -> None:
    collection = collection_for(store, encoder)
    with pytest.raises(ManifestMismatchError, match="'raw' was made by plain"):
        ingest_images(records(), collection, encoder=PlainEncoder(seed=1))
    assert collection.count() == 0


def test_another_or_no_projection_is_refused(
    store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    collection = collection_for(store, encoder, projection)
    with pytest.raises(ManifestMismatchError, match="'pca' was made by"):
        ingest_images(
            records(), collection, encoder=encoder, projection=plain_projection(encoder, seed=6)
        )
    other = plain_projection(PlainEncoder(seed=1))
    with pytest.raises(ManifestMismatchError, match="fitted for"):
        ingest_images(records(), collection, encoder=encoder, projection=other)
    with pytest.raises(InputError, match="would lack it; give `projection`"):
        ingest_images(records(), collection, encoder=encoder)
    bare = collection_for(store, encoder, name="bare")
    with pytest.raises(ManifestMismatchError, match="no 'pca'"):
        ingest_images(records(), bare, encoder=encoder, projection=projection)
    assert encoder.n_encoded == 0


@pytest.mark.parametrize(
    "setting",
    [
        {"batch_size": 0},
        {"workers": -1},
        {"max_failures": -1},
        {"dataset": ""},
        {"dataset": "a/b"},
    ],
    ids=str,
)
def test_settings_that_cannot_be_used_are_refused(setting: dict[str, Any]) -> None:
    encoder = PlainEncoder()
    with open_store(":memory:") as store, pytest.raises(InputError):
        ingest_images(records(), collection_for(store, encoder), encoder=encoder, **setting)


# What fails


def test_every_failure_is_told_to_the_run_and_stops_nothing(
    store: Store, encoder: PlainEncoder
) -> None:
    def unreadable() -> bytes:
        raise PermissionError(13, "Permission denied", "/secret/place")

    source = [*records(), *(broken(n) for n in range(150)), ImageRecord("x.png", unreadable)]
    with RunLedger.open(":memory:") as ledger, ledger.run("ingest") as run:
        summary = ingest_images(source, collection_for(store, encoder), encoder=encoder, run=run)
        logged = ledger.failures(run.id)
        written = [m.value for m in ledger.metrics(run.id) if m.name == "written"]
    assert counts(summary) == (N, 0, 0, 151, 0)
    assert [failure.to_dict() for failure in logged] == summary.failures
    assert summary.failures[-1] == {
        "item": "x.png", "stage": "read", "reason": "Permission denied",
    }  # fmt: skip
    assert written == [N]


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"x": {1, 2}}, "not JSON serializable"),
        ({"x": "\ud800"}, "surrogates not allowed"),
        ({"x": "y" * 2**20}, "1,048,576 are allowed"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_payload_that_cannot_be_stored_is_listed_and_costs_no_image(
    payload: dict[str, Any], said: str
) -> None:
    encoder = PlainEncoder()
    with open_store(":memory:") as store:
        source = [record(0), record(1, **payload), record(2)]
        summary = ingest_images(source, collection_for(store, encoder), encoder=encoder)
        kept = {
            p["path"]: p for page in store.scroll("photos", payload=True) for p in page.payloads
        }
    assert counts(summary) == (3, 0, 0, 1, 0)
    assert said in summary.failures[0]["reason"]
    assert (summary.failures[0]["stage"], len(kept)) == ("metadata", 3)
    assert not any("x" in payload for payload in kept.values())


def test_nan_is_missing_and_large_numbers_are_text_with_one_note(
    caplog: pytest.LogCaptureFixture,
) -> None:
    encoder = PlainEncoder()
    with open_store(":memory:") as store:
        source = [record(n, x=[float("nan")], y={"z": 2**63}) for n in range(3)]
        summary = ingest_images(source, collection_for(store, encoder), encoder=encoder)
        kept = [p for page in store.scroll("photos", payload=["x", "y"]) for p in page.payloads]
    assert counts(summary) == (3, 0, 0, 0, 0)
    assert kept == [{"x": [None], "y": {"z": str(2**63)}}] * 3
    assert sum("column 'y' holds" in r.getMessage() for r in caplog.records) == 1


def test_columns_named_like_our_own_keys_are_kept_under_another_name(
    store: Store, encoder: PlainEncoder
) -> None:
    collection = collection_for(store, encoder)
    source = [record(0, sha256="theirs", dataset="theirs", path="theirs", tags=(1, 2))]
    ingest_images(source, collection, encoder=encoder)
    _, payload, _ = contents(collection)["00000.png"]
    assert payload == {
        "path": "00000.png", "sha256": hashlib.sha256(png(0)).hexdigest(), "dataset": "photos",
        "source_path": "theirs", "source_sha256": "theirs", "source_dataset": "theirs",
        "label": "l0", "tags": [1, 2],
    }  # fmt: skip
    assert ingest_images(source, collection, encoder=encoder).skipped == 1


def test_a_key_that_is_no_text_is_listed(store: Store, encoder: PlainEncoder) -> None:
    source = [record(0), ImageRecord("caf\udce9.png", lambda: png(1))]
    summary = ingest_images(source, collection_for(store, encoder), encoder=encoder)
    assert counts(summary) == (1, 0, 0, 1, 0)
    assert summary.failures[0]["item"] == "./caf\\xe9.png"


def test_vectors_that_are_none_are_the_pictures_failure(store: Store) -> None:
    class Sometimes(PlainEncoder):
        def vector(self, pixels: np.ndarray) -> np.ndarray:
            row = super().vector(pixels)
            shade = int(pixels[0, 0, 0])
            return row * {3: np.nan, 4: 0, 5: np.inf}.get(shade, 1)

    encoder = Sometimes()
    collection = collection_for(store, encoder)
    with np.errstate(invalid="ignore"):
        summary = ingest_images(records(), collection, encoder=encoder)
    assert counts(summary) == (N - 3, 0, 0, 3, 0)
    assert {f["stage"] for f in summary.failures} == {"encode"}
    assert [f["item"] for f in summary.failures] == ["00003.png", "00004.png", "00005.png"]
    assert collection.count() == N - 3


def test_too_many_failures_stop_the_ingest_and_keep_what_was_done(
    store: Store, encoder: PlainEncoder
) -> None:
    collection = collection_for(store, encoder)
    source = [*records(40), *(broken(n) for n in range(5)), *(record(n) for n in range(40, N))]
    assert (
        ingest_images(source, collection, encoder=encoder, max_failures=5, dataset="all").failed
        == 5
    )
    with (
        RunLedger.open(":memory:") as ledger,
        pytest.raises(InputError, match=r"5 pictures failed and 4 are allowed .*broken-0\.png"),
        ledger.run("ingest") as run,
    ):
        ingest_images(source, collection, encoder=encoder, max_failures=4, run=run)
    n_done = collection.count() - N
    assert n_done == 32  # the full batch before the broken ones
    mended = [*records(40), *(record(n) for n in range(40, N))]
    assert counts(ingest_images(mended, collection, encoder=encoder)) == (
        N - n_done,
        n_done,
        0,
        0,
        0,
    )


def test_the_summary_lists_only_so_many_failures() -> None:
    failures = Failures(Run(), None)
    for n in range(MOST_LISTED + 5):
        failures.add(FailureRecord(str(n), "read", "gone"))
    assert (failures.n, len(failures.listed)) == (MOST_LISTED + 5, MOST_LISTED)


# What ends it


def test_an_error_in_a_decoding_thread_ends_the_ingest(
    store: Store, encoder: PlainEncoder
) -> None:
    def explode() -> bytes:
        raise ZeroDivisionError("in a thread")

    source = [*records(50), ImageRecord("x.png", explode), *(record(n) for n in range(50, 5000))]
    collection = collection_for(store, encoder)
    with pytest.raises(ZeroDivisionError, match="in a thread"):
        ingest_images(source, collection, encoder=encoder, workers=2)
    n_done = collection.count()
    assert n_done in (0, 32)  # the write of the first batch may not have begun
    assert counts(ingest_images(records(50), collection, encoder=encoder)) == (
        50 - n_done,
        n_done,
        0,
        0,
        0,
    )


def test_an_error_in_the_writing_thread_ends_the_ingest(store: Store) -> None:
    class Dropping(PlainEncoder):
        def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
            if len(self.batches) == 1:
                store.drop("photos")
            return super().encode_pixels(pixels)

    encoder = Dropping()
    with pytest.raises(NotFound, match="photos"):
        ingest_images(
            (record(n) for n in range(5000)), collection_for(store, encoder), encoder=encoder
        )
    assert len(encoder.batches) < 10


def test_an_error_of_the_source_ends_the_ingest(store: Store, encoder: PlainEncoder) -> None:
    def failing() -> Iterator[ImageRecord]:
        yield from records(600)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        ingest_images(failing(), collection_for(store, encoder), encoder=encoder)


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_ends_the_ingest_and_a_repeat_goes_on(store: Store, workers: int) -> None:
    class Interrupted(PlainEncoder):
        def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().encode_pixels(pixels)

    collection = collection_for(store, PlainEncoder())
    with pytest.raises(KeyboardInterrupt):
        ingest_images(records(600), collection, encoder=Interrupted(), workers=workers)
    n_done = collection.count()
    assert n_done in (32, 64, 96)  # whole batches; the last ones may not have begun
    encoder = PlainEncoder()
    assert counts(ingest_images(records(600), collection, encoder=encoder)) == (
        600 - n_done,
        n_done,
        0,
        0,
        0,
    )
    assert encoder.n_encoded == 600 - n_done


def test_a_picture_that_never_comes_is_not_waited_for_for_ever(
    encoder: PlainEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "DEADLINE_S", 3.0)
    comes = threading.Event()

    def stuck() -> bytes:
        comes.wait(30)
        return png(1)

    with open_store(":memory:") as store:
        collection = collection_for(store, encoder)
        with pytest.raises(IntramodalError, match=r"waited 3 s for one step \(decode\)"):
            ingest_images([record(0), ImageRecord("x.png", stuck)], collection, encoder=encoder)
    comes.set()
    for thread in threading.enumerate():
        if thread.name.startswith("decode"):
            thread.join(30)


@pytest.mark.parametrize(("held_bytes", "n_at_once"), [(0, 256), (2**20, 32)])
def test_the_source_is_never_far_ahead_of_the_encoder(
    store: Store, encoder: PlainEncoder, held_bytes: int, n_at_once: int
) -> None:
    n_taken = 0
    gaps: list[int] = []

    def counted() -> Iterator[ImageRecord]:
        nonlocal n_taken
        for n in range(1500):
            n_taken += 1
            yield replace(record(n), held_bytes=held_bytes)

    class Looking(PlainEncoder):
        def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
            gaps.append(n_taken - self.n_encoded)
            return super().encode_pixels(pixels)

    ingest_images(counted(), collection_for(store, encoder), encoder=Looking(), workers=2)
    # Two chunks being looked up, one being decoded, a batch and its window. Images whose bytes are
    # in memory, as those of Parquet, took half a gigabyte where each had one MB.
    assert max(gaps) <= 3 * n_at_once + 2 * 32 + 2


def test_the_set_of_seen_ids_keeps_them_and_no_others() -> None:
    seen = Seen()
    ids = [point_id("x", str(n)) for n in range(2000)]
    assert all(seen.add(point) for point in ids)
    assert not any(seen.add(point) for point in ids)
    assert all(point in seen for point in ids)
    assert point_id("y", "0") not in seen
    seen.close()
