"""ROxford and RParis in table 3: figures from the stored vectors, by plain loops."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.evaluation.rivals.oti import InversionMap
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.paper.base import Cell, DataSet, declared
from intramodal.paper.reproduce import Reproduction
from intramodal.projection.anchors import AnchorSet
from intramodal.runs.ledger import RunLedger
from intramodal.store.collection import ImageCollection
from intramodal.store.open import open_store
from intramodal.types import Encoder
from tests.paper import miniature
from tests.paper.test_reproduce import made_table
from tests.unit.evaluation.plain_revisited import published

SIZE = miniature.Size(train=9, val=1, test=3)
DATASETS = declared("datasets", DataSet)


class Bench:
    """A data root with both miniatures, and a store for what is made of them."""

    def __init__(self, folder: Path, *, store: Any, ledger: RunLedger) -> None:
        self.root, self.work = folder / "data", folder / "work"
        self.store, self.ledger = store, ledger
        miniature.write(self.root, "roxford", "rparis", size=SIZE)

    def make(self, **given: Any) -> Reproduction:
        about = {"datasets": ["roxford", "rparis"], "models": ["demo"], "work": self.work, **given}
        return made_table("table3", self.store, ledger=self.ledger, root=self.root, **about)

    def collection(self, dataset: str, limit: str = "") -> ImageCollection:
        return ImageCollection.open(self.store, f"paper-{dataset}-demo{limit}")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with RunLedger.open(tmp_path / "runs.db") as ledger, open_store(":memory:") as store:
        yield Bench(tmp_path, store=store, ledger=ledger)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("demo")


def unit(X: np.ndarray) -> np.ndarray:
    X = X.astype(np.float64)
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))


def ground_truth(root: Path, name: str) -> dict[str, Any]:
    folder, file, _ = miniature.LANDMARKS[name]
    found: dict[str, Any] = pickle.loads((root / folder / file).read_bytes())
    return found


def expected(
    truth: dict[str, Any], vectors: dict[str, np.ndarray], queries: dict[str, np.ndarray]
) -> dict[str, float]:
    """Return mAP by difficulty, from vectors by name; `queries` are those that rank."""
    Q = unit(np.stack([queries[name] for name in truth["qimlist"]]))
    G = unit(np.stack([vectors[name] for name in truth["imlist"]]))
    easy, hard, junk = (
        [np.array(row[kind], dtype=int) for row in truth["gnd"]]
        for kind in ("easy", "hard", "junk")
    )
    both = [np.concatenate(pair) for pair in zip(easy, hard, strict=True)]
    judged = {"mAP": (both, junk)}
    judged["mAP easy"] = (easy, [np.concatenate(p) for p in zip(hard, junk, strict=True)])
    judged["mAP hard"] = (hard, [np.concatenate(p) for p in zip(easy, junk, strict=True)])
    return {name: float(np.mean(published(Q @ G.T, *lists)[0])) for name, lists in judged.items()}


def by_name(collection: ImageCollection) -> dict[str, np.ndarray]:
    table = collection.table(["raw"], payload=["name"])
    return dict(zip(table.payload["name"], table.vectors["raw"], strict=True))


def table3_axes(encoder: Encoder) -> np.ndarray:
    """Return the axes of the recipe paper-table3, by an eigendecomposition of its own."""
    texts = encoder.encode_texts(list(AnchorSet.imagenet("wordnet").names)).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(texts.T))
    return np.asarray(vectors[:, np.argsort(-values)[: texts.shape[1] // 2]])


def test_cells_of_both_sets_are_what_plain_loops_give(bench: Bench, encoder: Encoder) -> None:
    found = bench.make(methods=["original", "pca"])
    axes = table3_axes(encoder)
    for name in ("roxford", "rparis"):
        stored, truth = by_name(bench.collection(name)), ground_truth(bench.root, name)
        projected = {of: x @ axes for of, x in stored.items()}
        for method, vectors in (("original", stored), ("pca", projected)):
            outcome = found.outcomes[Cell("retrieval", name, "demo", method)]
            assert outcome.state == "done", outcome.reason
            # float32 scores can swap two images that float64 tells apart by 1e-7
            assert outcome.figures == pytest.approx(expected(truth, vectors, vectors), abs=1e-3)
            assert outcome.figures["mAP"] not in (None, 1.0)


def test_oti_ranks_the_gallery_by_texts_of_the_queries(bench: Bench, encoder: Encoder) -> None:
    found = bench.make(datasets=["roxford"], methods=["oti"], limit=2)
    (outcome,) = found.outcomes.values()
    assert outcome.state == "done", outcome.reason
    collection = bench.collection("roxford", "-limit-2")
    table = collection.table(["raw"], payload=["name", "split"])
    asks = np.array([split == "query" for split in table.payload["split"]])
    ids = [one for one, is_query in zip(table.ids, asks, strict=True) if is_query]
    keep = InversionMap(encoder).kept_in(bench.work / f"oti-{collection.name}.safetensors")
    kept = keep(ids, table.vectors["raw"][asks])
    assert (len(ids), kept.n_new) == (2, 0)
    names = np.array(table.payload["name"])
    truth = {
        "qimlist": names[asks].tolist(),
        "imlist": names[~asks].tolist(),
        "gnd": [kinds_of(bench.root, query, names[~asks].tolist()) for query in names[asks]],
    }
    texts = dict(zip(names[asks], kept.texts, strict=True))
    figures = expected(truth, by_name(collection), texts)
    assert outcome.figures == pytest.approx(figures, abs=1e-6)


def kinds_of(root: Path, query: str, gallery: list[str]) -> dict[str, list[int]]:
    """Return the places in `gallery` of what the miniature judges for a query."""
    truth = ground_truth(root, "roxford")
    row = truth["gnd"][truth["qimlist"].index(query)]
    named = {kind: {truth["imlist"][g] for g in row[kind]} for kind in ("easy", "hard", "junk")}
    return {kind: [g for g, of in enumerate(gallery) if of in named[kind]] for kind in named}


def test_a_limited_look_reads_the_first_queries_and_what_is_judged_for_them(bench: Bench) -> None:
    found = bench.make(datasets=["roxford"], methods=["original"], limit=2)
    (outcome,) = found.outcomes.values()
    assert outcome.state == "done", outcome.reason
    names = set(by_name(bench.collection("roxford", "-limit-2")))
    truth = ground_truth(bench.root, "roxford")
    wanted = set(truth["qimlist"][:2])
    for row in truth["gnd"][:2]:
        wanted |= {truth["imlist"][g] for kind in ("easy", "hard", "junk") for g in row[kind][:2]}
    assert names == wanted


def test_a_broken_query_a_missing_file_and_a_wrong_pickle_fail_their_cells_only(
    bench: Bench, tmp_path: Path
) -> None:
    broken = next(iter(ground_truth(bench.root, "roxford")["qimlist"]))
    (bench.root / "roxford5k" / "jpg" / f"{broken}.jpg").write_bytes(b"no image")
    found = bench.make(methods=["original"])
    by_set = {cell.dataset: outcome for cell, outcome in found.outcomes.items()}
    assert by_set["rparis"].state == "done"
    assert by_set["roxford"].state == "failed"
    assert f"1 of 9 queries ({broken})" in by_set["roxford"].reason
    (bench.root / "rparis6k" / "gnd_rparis6k.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    shutil.rmtree(bench.root / "roxford5k" / "jpg")
    with RunLedger.open(tmp_path / "other.db") as ledger, open_store(":memory:") as store:
        again = Bench.make(_on(bench, store, ledger), methods=["original"])
    reasons = {cell.dataset: outcome.reason for cell, outcome in again.outcomes.items()}
    assert "ROxford: there is no roxford5k/jpg/" in reasons["roxford"]
    assert "gnd_rparis6k.pkl names os.system, which is not data" in reasons["rparis"]


def _on(bench: Bench, store: Any, ledger: RunLedger) -> Bench:
    """Return the bench with another store."""
    other = Bench.__new__(Bench)
    other.root, other.work, other.store, other.ledger = bench.root, bench.work, store, ledger
    return other


@pytest.mark.real_data
@pytest.mark.parametrize("name", miniature.LANDMARKS)
def test_a_real_ground_truth_has_the_declared_number_of_images(
    tmp_path: Path, real_data: Path, name: str
) -> None:
    folder, file, _ = miniature.LANDMARKS[name]
    (tmp_path / folder / "jpg").mkdir(parents=True)
    of = "oxford5k" if name == "roxford" else "paris6k"
    shutil.copyfile(real_data / "roxford" / f"{of}_{file}", tmp_path / folder / file)
    truth = ground_truth(tmp_path, name)
    # One image is there, so that the folder is the right one.
    (tmp_path / folder / "jpg" / f"{truth['imlist'][0]}.jpg").write_bytes(b"\xff\xd8\xff")
    rows = [record.payload for record in DATASETS[name].open(tmp_path)]
    assert len(rows) == DATASETS[name].n_images
    assert sum(row["split"] == "query" for row in rows) == 70
