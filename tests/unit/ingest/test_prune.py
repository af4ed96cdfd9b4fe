"""Points whose image has left the source: when they are deleted, and when not (issue 15, F01)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intramodal.errors import InputError, SourceError
from intramodal.ingest.pipeline import ingest_images
from intramodal.ingest.prune import Seen, plan_prune
from intramodal.ingest.sources.base import Records, Source
from intramodal.ingest.sources.formats import open_source
from intramodal.ingest.sources.pictures import FolderSource
from intramodal.runs.ledger import RunLedger
from intramodal.store.base import Filter, Store
from intramodal.store.collection import ImageCollection
from intramodal.types import ImageRecord, point_id
from tests.plain_encoder import DIM, PlainEncoder, collection_for
from tests.unit.ingest.pipeline_kit import broken, contents, png, record, records
from tests.unit.ingest.sources_kit import put, tar

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

N = 30


@pytest.fixture
def collection(store: Store, encoder: PlainEncoder) -> ImageCollection:
    return collection_for(store, encoder)


# How much goes


@pytest.mark.parametrize(
    ("n_stored", "n_gone", "is_deleted"),
    [
        (11, 10, True),  # ten points, whatever part they are
        (110, 11, True),  # a tenth
        (109, 11, False),  # more than ten points and more than a tenth
        (12, 11, False),
    ],
)
def test_more_than_a_tenth_and_ten_points_are_deleted_with_yes_only(
    collection: ImageCollection,
    encoder: PlainEncoder,
    n_stored: int,
    n_gone: int,
    is_deleted: bool,
) -> None:
    ingest_images(records(n_stored), collection, encoder=encoder)
    rest = records(n_stored - n_gone)
    assert plan_prune(rest, collection).needs_yes is not is_deleted
    if not is_deleted:
        with pytest.raises(
            InputError, match=rf"{n_gone} of {n_stored} points .* confirm with `yes`"
        ):
            ingest_images(rest, collection, encoder=encoder, prune=True)
        assert collection.count() == n_stored
    assert (
        ingest_images(rest, collection, encoder=encoder, prune=True, yes=not is_deleted).pruned
        == n_gone
    )
    assert {r.key for r in rest} == set(contents(collection))


def test_a_refused_prune_keeps_what_was_written_and_is_a_failed_run(
    collection: ImageCollection, encoder: PlainEncoder
) -> None:
    ingest_images(records(N), collection, encoder=encoder)
    source = [record(n) for n in range(20, N + 5)]
    with RunLedger.open(":memory:") as ledger:
        with pytest.raises(InputError, match="20 of 30"), ledger.run("ingest") as run:
            ingest_images(source, collection, encoder=encoder, prune=True, run=run)
        (listed,) = ledger.runs()
        figures = {metric.name: metric.value for metric in ledger.metrics(listed.id)}
    assert collection.count() == N + 5
    assert listed.status == "FAILED"
    assert (figures["written"], figures["skipped"]) == (5, 10)
    assert "pruned" not in figures


def test_what_the_same_load_adds_is_not_counted_as_the_data_set(
    collection: ImageCollection, encoder: PlainEncoder
) -> None:
    ingest_images(records(N), collection, encoder=encoder)
    changed = replace(record(0), read=lambda: png(999))
    elsewhere = [changed, *(replace(r, key=f"moved/{r.key}") for r in records(300))]
    assert plan_prune(elsewhere, collection).n_dataset == N
    with pytest.raises(InputError, match="29 of 30 points"):
        ingest_images(elsewhere, collection, encoder=encoder, prune=True)


def test_what_no_ingest_has_written_is_not_counted_and_stays(
    collection: ImageCollection, encoder: PlainEncoder
) -> None:
    ingest_images(records(N), collection, encoder=encoder)
    ingest_images(records(N), collection, encoder=encoder, dataset="more")
    foreign = [{"dataset": "photos", "path": f"{n}.png"} for n in range(500)]
    X = np.ones((500, DIM), dtype=np.float32)
    collection.write(list(range(500)), {"raw": X}, foreign)
    with pytest.raises(InputError, match="20 of 30 points"):
        ingest_images(records(10), collection, encoder=encoder, prune=True)
    assert (
        ingest_images(records(10), collection, encoder=encoder, prune=True, yes=True).pruned == 20
    )
    assert collection.count() == 10 + N + 500


# What never goes


def broken_jsonl(folder: Path) -> Source:
    (folder / "list.jsonl").write_text('{"path": "0.png"}\n{"path": "1.pn')
    return open_source(str(folder / "list.jsonl"))


def refused_row(folder: Path) -> Source:
    (folder / "list.csv").write_text("path,label\n0.png,x\n1.png,x,y\n")
    return open_source(str(folder / "list.csv"))


def cut_off_list(folder: Path) -> Source:
    (folder / "list.csv").write_text("label,path\nx,0.png\nx,1.p")
    return open_source(str(folder / "list.csv"))


def cut_off_shard(folder: Path) -> Source:
    whole = tar(folder / "s.tar", {f"{n}.png": png(n) for n in range(3)}).read_bytes()
    (folder / "s.tar").write_bytes(whole[:1024])
    return open_source(str(folder / "s.tar"))


class Vanishing(FolderSource):
    """A folder of which a part is gone when it comes to be listed."""

    def _records(self) -> Records:
        for found in super()._records():
            yield found
            shutil.rmtree(Path(self.location) / "part", ignore_errors=True)


def vanishing_folder(folder: Path) -> Source:
    put(folder / "all", "0.png", "part/1.png")
    return Vanishing(str(folder / "all"))


INCOMPLETE = [broken_jsonl, refused_row, cut_off_list, cut_off_shard, vanishing_folder]


@pytest.mark.parametrize("open_broken", INCOMPLETE)
def test_nothing_is_pruned_after_a_source_that_may_hide_pictures(
    collection: ImageCollection,
    encoder: PlainEncoder,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    open_broken: Callable[[Path], Source],
) -> None:
    put(tmp_path, "0.png", "1.png")
    ingest_images(
        [replace(record(n), key=f"{n}.png") for n in range(3)], collection, encoder=encoder
    )
    source = open_broken(tmp_path)
    summary = ingest_images(source, collection, encoder=encoder, prune=True, yes=True)
    assert (summary.pruned, collection.count()) == (0, 3)
    assert f"nothing is pruned, as the source may hold more images: {source.gap}" in caplog.text
    plan = plan_prune(open_broken(tmp_path), collection)
    assert (plan.n_gone, plan.n_dataset, plan.paths, plan.gap) == (0, 3, [], source.gap)


def test_nothing_is_pruned_after_a_source_that_yields_nothing(
    collection: ImageCollection, encoder: PlainEncoder, tmp_path: Path
) -> None:
    ingest_images(records(3), collection, encoder=encoder)
    source = open_source(str(put(tmp_path / "mounted", "1.png")))
    (tmp_path / "mounted/1.png").unlink()
    for empty in (source, [], iter(())):
        assert ingest_images(empty, collection, encoder=encoder, prune=True, yes=True).pruned == 0
        assert plan_prune(empty, collection).gap == "it has yielded none"
    assert collection.count() == 3


def test_pictures_that_cannot_be_read_or_decoded_are_not_gone(
    collection: ImageCollection, encoder: PlainEncoder
) -> None:
    def unmounted() -> bytes:
        raise OSError(5, "Input/output error")

    ingest_images(records(5), collection, encoder=encoder)
    source = [replace(record(n), read=unmounted if n else lambda: b"") for n in range(5)]
    summary = ingest_images(source, collection, encoder=encoder, prune=True, yes=True)
    assert [f["stage"] for f in summary.failures] == ["decode", *["read"] * 4]
    assert (summary.pruned, collection.count()) == (0, 5)


def test_an_ingest_that_ends_early_prunes_nothing(
    collection: ImageCollection, encoder: PlainEncoder, tmp_path: Path
) -> None:
    def interrupted() -> Iterator[ImageRecord]:
        yield record(0)
        raise KeyboardInterrupt

    ingest_images(records(5), collection, encoder=encoder)
    put(tmp_path, "0.png", "1.png")
    (tmp_path / "list.csv").write_text('path,label\n0.png,x\n1.png,"x\n')
    with pytest.raises(SourceError, match="line 3 of"):
        ingest_images(
            open_source(str(tmp_path / "list.csv")),
            collection,
            encoder=encoder,
            prune=True,
            yes=True,
        )
    with pytest.raises(KeyboardInterrupt):
        ingest_images(interrupted(), collection, encoder=encoder, prune=True, yes=True)
    with pytest.raises(InputError, match="1 pictures failed and 0 are allowed"):
        ingest_images(
            [broken(1)], collection, encoder=encoder, prune=True, yes=True, max_failures=0
        )
    assert {f"{n:05}.png" for n in range(5)} <= set(contents(collection))


# Looking first


def test_the_plan_lists_exactly_what_a_prune_then_deletes_and_changes_nothing(
    collection: ImageCollection, encoder: PlainEncoder, rng: np.random.Generator
) -> None:
    def unread() -> bytes:
        raise AssertionError("a plan reads keys only")

    ingest_images(records(N), collection, encoder=encoder)
    ingest_images(records(N), collection, encoder=encoder, dataset="more")
    before = contents(collection)
    kept = sorted(rng.choice(N, size=N - 12, replace=False).tolist())
    plan = plan_prune([replace(record(n), read=unread) for n in kept], collection)
    assert contents(collection) == before
    expected = [f"{n:05}.png" for n in range(N) if n not in kept]
    assert (plan.paths, plan.n_gone, plan.n_dataset) == (expected, 12, N)
    source = [record(n) for n in kept]
    assert ingest_images(source, collection, encoder=encoder, prune=True, yes=True).pruned == 12
    pages = collection.scroll(payload=True, where=Filter(equals={"dataset": "photos"}))
    there = [payload["path"] for page in pages for payload in page.payloads]
    assert sorted(there) == [f"{n:05}.png" for n in kept]
    assert plan_prune(source, collection).n_gone == 0


def test_a_plan_lists_only_so_many_paths_and_counts_all(store: Store) -> None:
    encoder = PlainEncoder()
    collection = collection_for(store, encoder)
    n = 10_050
    keys = [f"{i:05}.png" for i in range(n)]
    payloads = [{"path": key, "dataset": "photos"} for key in keys]
    X = np.ones((n, DIM), dtype=np.float32)
    collection.write([point_id("photos", key) for key in keys], {"raw": X}, payloads)
    plan = plan_prune([record(n)], collection)
    assert (plan.n_gone, len(plan.paths)) == (n, 10_000)
    assert plan.paths == sorted(plan.paths)
    assert set(plan.paths) < set(keys)
    assert (
        ingest_images([record(n)], collection, encoder=encoder, prune=True, yes=True).pruned == n
    )
    assert collection.count() == 1


def test_ids_that_are_gone_come_back_in_pages() -> None:
    seen = Seen()
    ids = [point_id("x", str(n)) for n in range(25)]
    seen.note_gone(ids[:20])
    seen.note_gone(ids[20:])
    assert list(seen.gone(10)) == [ids[:10], ids[10:20], ids[20:]]
    assert not seen
    assert seen.add(ids[0])
    assert seen
    seen.close()
