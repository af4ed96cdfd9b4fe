"""What a command asks of a server before it does its work: looks at the collection, and counts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from intramodal import ImageCollection, open_store
from intramodal.store import collection, samples
from tests.cli import evaluated
from tests.cli.kit import run
from tests.faults.wire import WireServer

MOST_LOOKS, MOST_COUNTS = 3, 2
"""Issue 18, must show 4. Before, the first backfill below looked 14 times and counted 15 times."""


class Counting(WireServer):
    """A stand-in that keeps what it is asked by REST."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str, Any]] = []

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Any]:
        self.asked.append((method, target.partition("?")[0], json.loads(body) if body else None))
        return super().answer(method, target, headers, body)

    def n_looks(self, name: str) -> int:
        return sum(asked[:2] == ("GET", f"/collections/{name}") for asked in self.asked)

    def exact_counts(self) -> list[Any]:
        counts = [body for _, path, body in self.asked if path.endswith("/points/count")]
        return [body.get("filter") for body in counts if body["exact"]]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    """Yield a server with `photos`, which has both vectors, and `fresh`, which lacks `pca`."""
    monkeypatch.chdir(tmp_path)
    evaluated.half().save(tmp_path / "pca.safetensors")
    with Counting() as server:
        with open_store(server.url) as store:
            evaluated.fill(store)
            table = evaluated.pictures()
            origin = ImageCollection.open(store, "photos").origin("raw")
            fresh = ImageCollection.create(store, "fresh", {"raw": (evaluated.DIM, origin)})
            fresh.write(table.ids, {"raw": table.vectors["raw"]}, [{}] * len(table))
        yield server


BACKFILL = ("backfill", "fresh", "--projection", "pca.safetensors")


@pytest.mark.parametrize(
    "command",
    [
        (*BACKFILL,),
        (*BACKFILL, "--dry-run"),
        ("backfill", "photos", "--projection", "pca.safetensors"),
        ("backfill", "photos", "--projection", "pca.safetensors", "--dry-run"),
        ("backfill", "photos", "--projection", "pca.safetensors", "--verify", "20"),
        ("backfill", "photos", "--projection", "pca.safetensors", "--recompute", "year=2013"),
        ("backfill", "photos", "--rollback"),
        ("compare", "photos", "--labels", "kind"),
        ("search", "photos", "--id", evaluated.pictures().ids[0]),
        ("export", "photos", "--out", "raw.npy"),
        ("evaluate", "retrieval", "photos", "--labels", "kind"),
        ("evaluate", "index", "photos", "--labels", "kind"),
    ],
    ids=" ".join,
)
def test_a_command_looks_and_counts_a_few_times(shop: Counting, command: tuple[str, ...]) -> None:
    shop.asked.clear()
    run(*command, "--store", shop.url)
    assert shop.n_looks(command[1 if command[0] != "evaluate" else 2]) <= MOST_LOOKS
    counts = shop.exact_counts()
    assert len(counts) <= MOST_COUNTS, counts


def test_a_sample_from_slices_is_of_an_estimate(
    shop: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "MANY_POINTS", 10)
    monkeypatch.setattr(samples, "_PART", 2)  # so that 20 of 120 are a small part
    shop.asked.clear()
    found = run("compare", "photos", "--labels", "kind", "--sample", "20", "--store", shop.url)
    assert found["sample"] == {"n_points": 20, "of": evaluated.N, "seed": 0, "is_estimate": True}
    assert f"among 20 of about {evaluated.N} points" in json.dumps(found)
    assert found["sample"] == {"n_points": 20, "of": evaluated.N, "seed": 0, "is_estimate": True}
    assert any("slice" in json.dumps(body) for _, _, body in shop.asked)
    assert shop.n_looks("photos") <= MOST_LOOKS
    assert len(shop.exact_counts()) <= MOST_COUNTS


def test_a_search_counts_nothing_and_looks_once(shop: Counting) -> None:
    point = evaluated.pictures().ids[0]
    shop.asked.clear()
    run("search", "photos", "--id", point, "--store", shop.url)
    assert (shop.n_looks("photos"), shop.exact_counts()) == (1, [])


def test_what_a_collection_holds_is_told_without_a_count(shop: Counting) -> None:
    with open_store(shop.url) as store:
        shop.asked.clear()
        assert store.info("photos").n_points == evaluated.N
        assert [path for _, path, _ in shop.asked] == ["/collections/photos"]


def test_a_vector_that_others_have_added_is_seen_without_a_new_start(shop: Counting) -> None:
    with open_store(shop.url) as store, open_store(shop.url) as other:
        ours = ImageCollection.open(store, "fresh")
        theirs = ImageCollection.open(other, "fresh")
        theirs.add_vector("late", 2, theirs.origin("raw"))
        assert ours.vector_spec("late").size == 2
        theirs.forget("late")
        assert "late" not in theirs.vectors
        ours.declare("raw", ours.origin("raw"))  # looks first: hours may have passed
        assert "late" not in ours.vectors
