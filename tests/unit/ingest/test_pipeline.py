from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from intramodal.errors import InputError, IntramodalError, ManifestMismatchError, NotFound
from intramodal.ingest import threads
from intramodal.ingest.decode import decode_image
from intramodal.ingest.failures import MOST_LISTED, Failures
from intramodal.ingest.pipeline import IngestSummary, ingest
from intramodal.ingest.sources import open_source
from intramodal.ingest.stored import Seen
from intramodal.projection.artifact import Projection
from intramodal.runs import FailureRecord, NullRun, RunLedger
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.types import ImageRecord, point_id, unit_rows
from tests.plain_encoder import DIM, SIDE, PlainEncoder, collection_for, plain_projection

N = 70


@pytest.fixture(params=[":memory:", "edge"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    location = ":memory:" if request.param == ":memory:" else str(tmp_path / "store")
    with open_store(location) as opened:
        yield opened


@pytest.fixture
def encoder() -> PlainEncoder:
    return PlainEncoder()


@pytest.fixture
def projection(encoder: PlainEncoder) -> Projection:
    return plain_projection(encoder)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert {t.name for t in set(threading.enumerate()) - before if t.name[:5] in THREADS} == set()


THREADS = ("decod", "store")


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 12), (shade % 256, shade // 256, 9)).save(file, "PNG")
    return file.getvalue()


def record(n: int, **payload: Any) -> ImageRecord:
    return ImageRecord(f"{n:05}.png", lambda: png(n), {"label": f"l{n % 3}", **payload})


def records(n: int = N) -> list[ImageRecord]:
    return [record(i) for i in range(n)]


def broken(n: int) -> ImageRecord:
    return ImageRecord(f"broken-{n}.png", lambda: b"no picture")


def counts(summary: IngestSummary) -> tuple[int, int, int, int, int]:
    return (summary.written, summary.skipped, summary.updated, summary.failed, summary.pruned)


def contents(collection: ImageCollection, vectors: Iterable[str] = ("raw",)) -> dict[str, Any]:
    """Return the payload and the bytes of the vectors of every point, by path."""
    found = {}
    for page in collection.scroll(vectors=list(vectors), payload=True):
        for row, payload in enumerate(page.payloads):
            rows = {name: X[row].tobytes() for name, X in page.vectors.items()}
            found[payload["path"]] = (page.ids[row], payload, rows)
    return found


# What is written


def test_every_picture_gets_both_vectors_and_its_payload(
    store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    collection = collection_for(store, encoder, projection)
    summary = ingest(records(), collection, encoder, projection=projection)
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
    ingest(records(), some, encoder)
    assert encoder.batches == [32, 32, N - 64]
    other = collection_for(store, encoder, name="other")
    ingest(records(), other, encoder, batch_size=9, workers=3)
    rows = [{k: v[2] for k, v in contents(collection).items()} for collection in (some, other)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(("workers", "expected"), [(0, {"MainThread"}), (1, {"decode-0"})])
def test_decoding_happens_in_the_workers(
    store: Store, encoder: PlainEncoder, workers: int, expected: set[str]
) -> None:
    ingest(records(), collection_for(store, encoder), encoder, workers=workers)
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

    ingest(records(), collection, Looking())
    assert seen[0] == {"dataset": "keyword", "label": "keyword"}


def test_the_index_of_numbered_labels_takes_numbers_and_a_made_one_stays(
    store: Store, encoder: PlainEncoder
) -> None:
    numbered = collection_for(store, encoder, name="numbered")
    ingest([record(1, label=7)], numbered, encoder)
    assert numbered.info().indexes["label"] == "integer"
    mine = collection_for(store, encoder, name="mine")
    store.ensure_index("mine", "label", "integer")
    ingest(records(3), mine, encoder)
    assert mine.info().indexes == {"dataset": "keyword", "label": "integer"}


def test_the_summary_is_json(store: Store, encoder: PlainEncoder) -> None:
    source = [*records(3), broken(1)]
    summary = ingest(source, collection_for(store, encoder), encoder)
    plain = json.loads(json.dumps(summary.to_dict()))
    assert plain.pop("seconds") >= 0
    reason = "not a picture, or cut off within its header"
    assert plain == {
        "collection": "photos", "written": 3, "skipped": 0, "updated": 0, "failed": 1, "pruned": 0,
        "failures": [{"item": "broken-1.png", "stage": "decode", "reason": reason}],
    }  # fmt: skip


# What is not done again


def test_a_repeat_encodes_and_changes_nothing(
    store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    collection = collection_for(store, encoder, projection)
    ingest(records(), collection, encoder, projection=projection)
    before = contents(collection, ["raw", "pca"])
    again = ingest(records(), collection, encoder, projection=projection)
    assert counts(again) == (0, N, 0, 0, 0)
    assert encoder.n_encoded == N
    assert contents(collection, ["raw", "pca"]) == before


def test_a_changed_file_is_encoded_again_and_keeps_what_others_added(
    store: Store, encoder: PlainEncoder
) -> None:
    collection = collection_for(store, encoder)
    ingest(records(), collection, encoder)
    changed = point_id("photos", "00003.png")
    store.set_payload("photos", [changed], {"reviewed": True})
    source = records()
    source[3] = replace(source[3], read=lambda: png(999))
    summary = ingest(source, collection, encoder)
    assert counts(summary) == (1, N - 1, 0, 0, 0)
    assert encoder.n_encoded == N + 1
    _, payload, _ = contents(collection)["00003.png"]
    assert payload["sha256"] == hashlib.sha256(png(999)).hexdigest()
    assert payload["reviewed"] is True


def test_changed_payload_alone_is_written_without_encoding(
    store: Store, encoder: PlainEncoder
) -> None:
    collection = collection_for(store, encoder)
    ingest([record(n, old=n) for n in range(N)], collection, encoder)
    before = contents(collection)
    store.set_payload("photos", [before["00001.png"][0]], {"reviewed": True})
    source = [record(n, label="new" if n % 2 else f"l{n % 3}", old=None) for n in range(N)]
    summary = ingest(source, collection, encoder)
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
    assert counts(ingest(source, collection, encoder)) == (0, N, 0, 0, 0)


def test_points_without_one_of_the_vectors_are_written_again(
    store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    collection = collection_for(store, encoder)
    ingest(records(), collection, encoder)
    origin = VectorOrigin(
        encoder.name, encoder.fingerprint, projection=projection.fingerprint, source="raw"
    )
    collection.add_vector("pca", projection.dim_out, origin)
    full = [point_id("photos", f"{n:05}.png") for n in range(10)]
    X = np.ones((10, DIM // 2), dtype=np.float32)
    store.update_vectors("photos", "pca", full, X)
    summary = ingest(records(), collection, encoder, projection=projection)
    assert counts(summary) == (N - 10, 10, 0, 0, 0)
    assert collection.table(["raw", "pca"]).n_incomplete == 0


def test_the_same_bytes_under_two_paths_are_two_points(
    store: Store, encoder: PlainEncoder
) -> None:
    collection = collection_for(store, encoder)
    twins = [ImageRecord(key, lambda: png(5)) for key in ("a.png", "b.png")]
    assert ingest(twins, collection, encoder).written == 2
    assert counts(ingest(twins, collection, encoder)) == (0, 2, 0, 0, 0)


def test_data_sets_do_not_touch_each_other(store: Store, encoder: PlainEncoder) -> None:
    collection = collection_for(store, encoder)
    ingest(records(5), collection, encoder)
    ingest(records(5), collection, encoder, dataset="more")
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
        summary = ingest(source, collection, encoder)
        assert summary.failed == 1
        assert "occurs twice" in summary.failures[0]["reason"]
    assert counts(summary) == (0, distance, 0, 1, 0)


def test_pictures_that_are_gone_stay_unless_pruned(store: Store, encoder: PlainEncoder) -> None:
    collection = collection_for(store, encoder)
    ingest(records(), collection, encoder)
    ingest(records(5), collection, encoder, dataset="more")
    own = {"raw": np.ones((2, DIM), dtype=np.float32)}
    foreign = [{"dataset": "photos", "path": "00069.png"}, {"dataset": "photos"}]
    collection.write([7, point_id("elsewhere", "x")], own, foreign)
    rest = records(N - 20)
    assert counts(ingest(rest, collection, encoder)) == (0, N - 20, 0, 0, 0)
    assert collection.count() == N + 7
    assert counts(ingest(rest, collection, encoder, prune=True)) == (0, N - 20, 0, 0, 20)
    assert collection.count() == N - 20 + 7
    assert ingest(rest, collection, encoder, prune=True).pruned == 0


def test_a_broken_picture_is_not_gone(store: Store, encoder: PlainEncoder) -> None:
    collection = collection_for(store, encoder)
    ingest(records(5), collection, encoder)
    source = records(5)
    source[2] = replace(source[2], read=lambda: b"")
    summary = ingest(source, collection, encoder, prune=True)
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
    ingest(open_source(str(listed)), collection, encoder)
    listed.write_text('{"path": "0.png"}\n{"path": "1.p\n')
    summary = ingest(open_source(str(listed)), collection, encoder, prune=True)
    assert counts(summary) == (0, 1, 0, 1, 0)
    assert "nothing is pruned" in caplog.text


# What is refused


def test_another_model_is_refused(store: Store, encoder: PlainEncoder) -> None:
    collection = collection_for(store, encoder)
    with pytest.raises(ManifestMismatchError, match="'raw' was made by plain"):
        ingest(records(), collection, PlainEncoder(seed=1))
    assert collection.count() == 0


def test_another_or_no_projection_is_refused(
    store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    collection = collection_for(store, encoder, projection)
    with pytest.raises(ManifestMismatchError, match="'pca' was made by"):
        ingest(records(), collection, encoder, projection=plain_projection(encoder, seed=6))
    other = plain_projection(PlainEncoder(seed=1))
    with pytest.raises(ManifestMismatchError, match="fitted for"):
        ingest(records(), collection, encoder, projection=other)
    with pytest.raises(InputError, match="would lack it; give --projection"):
        ingest(records(), collection, encoder)
    bare = collection_for(store, encoder, name="bare")
    with pytest.raises(ManifestMismatchError, match="no 'pca'"):
        ingest(records(), bare, encoder, projection=projection)
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
        ingest(records(), collection_for(store, encoder), encoder, **setting)


# What fails


def test_every_failure_is_told_to_the_run_and_stops_nothing(
    store: Store, encoder: PlainEncoder
) -> None:
    def unreadable() -> bytes:
        raise PermissionError(13, "Permission denied", "/secret/place")

    source = [*records(), *(broken(n) for n in range(150)), ImageRecord("x.png", unreadable)]
    with RunLedger.open(":memory:") as ledger, ledger.run("ingest") as run:
        summary = ingest(source, collection_for(store, encoder), encoder, run=run)
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
        ({"x": float("nan")}, "not JSON compliant"),
        ({"x": 2**63}, "more than 64 bits"),
        ({"x": "\ud800"}, "surrogates not allowed"),
        ({"x": "y" * 2**20}, "1,048,576 are allowed"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_payload_that_cannot_be_stored_is_the_pictures_failure(
    payload: dict[str, Any], said: str
) -> None:
    encoder = PlainEncoder()
    with open_store(":memory:") as store:
        source = [record(0), record(1, **payload), record(2)]
        summary = ingest(source, collection_for(store, encoder), encoder)
    assert counts(summary) == (2, 0, 0, 1, 0)
    assert said in summary.failures[0]["reason"]


def test_columns_named_like_our_own_keys_are_kept_under_another_name(
    store: Store, encoder: PlainEncoder
) -> None:
    collection = collection_for(store, encoder)
    source = [record(0, sha256="theirs", dataset="theirs", path="theirs", tags=(1, 2))]
    ingest(source, collection, encoder)
    _, payload, _ = contents(collection)["00000.png"]
    assert payload == {
        "path": "00000.png", "sha256": hashlib.sha256(png(0)).hexdigest(), "dataset": "photos",
        "source_path": "theirs", "source_sha256": "theirs", "source_dataset": "theirs",
        "label": "l0", "tags": [1, 2],
    }  # fmt: skip
    assert ingest(source, collection, encoder).skipped == 1


def test_a_key_that_is_no_text_is_listed(store: Store, encoder: PlainEncoder) -> None:
    source = [record(0), ImageRecord("caf\udce9.png", lambda: png(1))]
    summary = ingest(source, collection_for(store, encoder), encoder)
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
        summary = ingest(records(), collection, encoder)
    assert counts(summary) == (N - 3, 0, 0, 3, 0)
    assert {f["stage"] for f in summary.failures} == {"encode"}
    assert [f["item"] for f in summary.failures] == ["00003.png", "00004.png", "00005.png"]
    assert collection.count() == N - 3


def test_too_many_failures_stop_the_ingest_and_keep_what_was_done(
    store: Store, encoder: PlainEncoder
) -> None:
    collection = collection_for(store, encoder)
    source = [*records(40), *(broken(n) for n in range(5)), *(record(n) for n in range(40, N))]
    assert ingest(source, collection, encoder, max_failures=5, dataset="all").failed == 5
    with (
        RunLedger.open(":memory:") as ledger,
        pytest.raises(InputError, match=r"5 pictures failed and 4 are allowed .*broken-0\.png"),
        ledger.run("ingest") as run,
    ):
        ingest(source, collection, encoder, max_failures=4, run=run)
    n_done = collection.count() - N
    assert n_done == 32  # the full batch before the broken ones
    mended = [*records(40), *(record(n) for n in range(40, N))]
    assert counts(ingest(mended, collection, encoder)) == (N - n_done, n_done, 0, 0, 0)


def test_the_summary_lists_only_so_many_failures() -> None:
    failures = Failures(NullRun(), None)
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
        ingest(source, collection, encoder, workers=2)
    n_done = collection.count()
    assert n_done in (0, 32)  # the write of the first batch may not have begun
    assert counts(ingest(records(50), collection, encoder)) == (50 - n_done, n_done, 0, 0, 0)


def test_an_error_in_the_writing_thread_ends_the_ingest(store: Store) -> None:
    class Dropping(PlainEncoder):
        def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
            if len(self.batches) == 1:
                store.drop("photos")
            return super().encode_pixels(pixels)

    encoder = Dropping()
    with pytest.raises(NotFound, match="photos"):
        ingest((record(n) for n in range(5000)), collection_for(store, encoder), encoder)
    assert len(encoder.batches) < 10


def test_an_error_of_the_source_ends_the_ingest(store: Store, encoder: PlainEncoder) -> None:
    def failing() -> Iterator[ImageRecord]:
        yield from records(600)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        ingest(failing(), collection_for(store, encoder), encoder)


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_ends_the_ingest_and_a_repeat_goes_on(store: Store, workers: int) -> None:
    class Interrupted(PlainEncoder):
        def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().encode_pixels(pixels)

    collection = collection_for(store, PlainEncoder())
    with pytest.raises(KeyboardInterrupt):
        ingest(records(600), collection, Interrupted(), workers=workers)
    n_done = collection.count()
    assert n_done in (32, 64, 96)  # whole batches; the last ones may not have begun
    encoder = PlainEncoder()
    assert counts(ingest(records(600), collection, encoder)) == (600 - n_done, n_done, 0, 0, 0)
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
            ingest([record(0), ImageRecord("x.png", stuck)], collection, encoder)
    comes.set()
    for thread in threading.enumerate():
        if thread.name.startswith("decode"):
            thread.join(30)


def test_the_source_is_never_far_ahead_of_the_encoder(store: Store, encoder: PlainEncoder) -> None:
    n_taken = 0
    gaps: list[int] = []

    def counted() -> Iterator[ImageRecord]:
        nonlocal n_taken
        for n in range(1500):
            n_taken += 1
            yield record(n)

    class Looking(PlainEncoder):
        def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
            gaps.append(n_taken - self.n_encoded)
            return super().encode_pixels(pixels)

    ingest(counted(), collection_for(store, encoder), Looking(), workers=2)
    # Two chunks of 256 being looked up, one being decoded, a batch and its window.
    assert max(gaps) <= 3 * 256 + 2 * 32 + 2


def test_the_set_of_seen_ids_keeps_them_and_no_others() -> None:
    seen = Seen()
    ids = [point_id("x", str(n)) for n in range(2000)]
    assert all(seen.add(point) for point in ids)
    assert not any(seen.add(point) for point in ids)
    assert all(point in seen for point in ids)
    assert point_id("y", "0") not in seen
    seen.close()
