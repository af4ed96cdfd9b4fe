"""Every table and figure on miniatures of all data sets, from the images to the page."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from intramodal.cli import cli
from intramodal.commands.reproduce import _show
from intramodal.errors import InputError
from intramodal.evaluation.rivals.oti import InversionMap
from intramodal.evaluation.shots import FewshotTask, drawn_anew
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.paper.base import Cell, DataSet, Method, Model, Table, chosen, declared, models_of
from intramodal.paper.plan import plan_reproduction
from intramodal.paper.reproduce import Reproduction, reproduce
from intramodal.projection.anchors import AnchorSet
from intramodal.runs.ledger import RunLedger
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.open import open_store
from intramodal.types import Encoder
from tests.paper import miniature


def made_table(table: str, store: Store, **given: Any) -> Reproduction:
    return reproduce(plan_reproduction(table, store, **given))


SIZE = miniature.Size(train=9, val=1, test=3)
TABLES = tuple(declared("tables", Table))
WRITTEN = tuple(miniature.WRITERS)


@dataclass(frozen=True)
class Bench:
    """A data root with all miniatures, and where their tables go."""

    root: Path
    out: Path
    store: Store
    ledger: RunLedger

    def make(self, table: str, **given: Any) -> Reproduction:
        (declaration,) = chosen("tables", Table, [table])
        there = [name for name in declaration.datasets if name in declared("datasets", DataSet)]
        about = {"datasets": there, "models": ["demo"], "work": self.out / "work", **given}
        return made_table(table, self.store, ledger=self.ledger, root=self.root, **about)

    def stored(self, dataset: str) -> Any:
        """Return the stored vectors of a data set as the demo model sees it."""
        about = declared("datasets", DataSet)[dataset]
        collection = ImageCollection.open(self.store, f"paper-{dataset}-demo")
        return collection.table(["raw"], payload=[*about.fields, *filter(None, [about.split])])


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root, out = tmp_path_factory.mktemp("datasets"), tmp_path_factory.mktemp("out")
    for name in WRITTEN:
        miniature.write(root, name, size=SIZE)
    with RunLedger.open(out / "runs.db") as ledger, open_store(str(out / "store")) as store:
        yield Bench(root, out, store, ledger)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("demo")


@pytest.fixture(scope="module")
def tables(bench: Bench) -> dict[str, Reproduction]:
    # OTI's 150 steps for each query take long; it has a test of its own. Table 3 reads all data
    # sets; the few-shot tables take three of them.
    few = {"datasets": ["caltech101", "fgvc_aircraft", "imagenet"]}
    given = {"table3": {"methods": ["original", "pca"]}, "table2": few, "figure6": few}
    return {name: bench.make(name, **given.get(name, {})) for name in TABLES}


def unit(X: NDArray[Any]) -> NDArray[np.float64]:
    X = X.astype(np.float64)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def mean_ap(Q: NDArray[Any], G: NDArray[Any], hits: NDArray[np.bool_]) -> float:
    """Return the mAP of queries over a gallery by sorting; queries without a hit are left out."""
    found = []
    for scores, relevant in zip(unit(Q) @ unit(G).T, hits, strict=True):
        ranked = relevant[np.argsort(-scores, kind="stable")]
        if ranked.any():
            at = np.flatnonzero(ranked)
            found.append(np.mean(np.arange(1, len(at) + 1) / (at + 1)))
    return float(np.mean(found))


def retrieved(table: Any, X: NDArray[Any], field: str) -> float:
    labels = np.array([str(value) for value in table.payload[field]])
    has_label = np.array([value is not None for value in table.payload[field]])
    splits = np.array(table.payload["split"])
    asks, answers = (has_label & (splits == name) for name in ("test", "train"))
    return mean_ap(X[asks], X[answers], labels[asks][:, None] == labels[answers])


def table3_axes(encoder: Encoder) -> NDArray[np.float64]:
    """Return the axes of the recipe paper-table3, by an eigendecomposition of its own."""
    texts = encoder.encode_texts(list(AnchorSet.imagenet("wordnet").names)).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(texts.T))
    return np.asarray(vectors[:, np.argsort(-values)[: texts.shape[1] // 2]])


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_of_every_table_is_done(tables: dict[str, Reproduction], name: str) -> None:
    failed = [o for o in tables[name].outcomes.values() if o.state != "done"]
    assert not failed, failed[0].reason
    assert len(tables[name].outcomes) > 0
    for grid in tables[name].grids():
        assert all(place.state != "failed" for place in grid.places.values())


def test_a_cell_of_table_3_is_what_sorting_gives(
    bench: Bench, tables: dict[str, Reproduction], encoder: Encoder
) -> None:
    table = bench.stored("oxford_pets")
    X = table.vectors["raw"]
    for method, seen in (("original", X), ("pca", X @ table3_axes(encoder))):
        cell = Cell("retrieval", "oxford_pets", "demo", method)
        expected = retrieved(table, seen, "class")
        # float32 scores can swap two images that float64 tells apart by 1e-7
        assert tables["table3"].outcomes[cell].figures["mAP"] == pytest.approx(expected, abs=1e-3)


def test_the_gain_on_bdd100k_is_the_difference_of_two_map(
    bench: Bench, tables: dict[str, Reproduction], encoder: Encoder
) -> None:
    table = bench.stored("bdd100k")
    X = table.vectors["raw"]
    axes = table3_axes(encoder)
    gains = tables["bdd100k"].grids()[1]
    for column, field in enumerate(("weather", "timeofday", "scene")):
        expected = retrieved(table, X @ axes, field) - retrieved(table, X, field)
        assert gains.places[0, column].value == pytest.approx(100 * expected, abs=0.2)


def test_table_1_is_texts_and_images_against_images(
    bench: Bench, tables: dict[str, Reproduction], encoder: Encoder
) -> None:
    table = bench.stored("dogs_vs_cats")
    X, labels = table.vectors["raw"], np.array(table.payload["class"])
    names = np.array(sorted(set(labels)))
    template = declared("datasets", DataSet)["dogs_vs_cats"].template
    texts = encoder.encode_texts([template.format(name) for name in names])
    nearest = names[(unit(X) @ unit(texts).T).argmax(axis=1)]
    found = [tables["table1"].grids()[0].places[0, column].value for column in range(3)]
    assert found[0] == pytest.approx(100 * mean_ap(texts, X, names[:, None] == labels), abs=0.1)
    assert found[1] == pytest.approx(100 * leave_one_out(X, labels), abs=0.1)
    assert found[2] == pytest.approx(100 * np.mean(nearest == labels))


def leave_one_out(X: NDArray[Any], labels: NDArray[Any]) -> float:
    n = len(X)
    others = [np.delete(np.arange(n), row) for row in range(n)]
    aps = [mean_ap(X[[r]], X[o], labels[[r]][:, None] == labels[o]) for r, o in enumerate(others)]
    return float(np.mean(aps))


def shots_of(table: Any, n_shots: int) -> tuple[FewshotTask, FewshotTask]:
    """Return the task and what is drawn: three seeds of their own for each number of shots.

    The draws are the library's; all else is computed here.
    """
    task = FewshotTask.from_table(
        table, "class", shots=(n_shots,), n_episodes=3, split=table.payload["split"]
    )
    (drawn,) = drawn_anew(task, 3)
    return task, drawn


def test_a_cell_of_table_2_is_the_nearest_mean_of_the_shots(
    bench: Bench, tables: dict[str, Reproduction]
) -> None:
    table = bench.stored("caltech101")
    task, drawn = shots_of(table, 4)
    X, codes = unit(table.vectors["raw"])[task.rows], task.codes
    means = [np.stack([X[of_class].mean(axis=0) for of_class in shots]) for shots in drawn.draws]
    right = [((X @ unit(M).T).argmax(axis=1) == codes)[task.is_test].mean() for M in means]
    cell = Cell("few-shot", "caltech101", "demo", "original")
    found = tables["table2"].outcomes[cell].figures["prototype@4"]
    assert found == pytest.approx(np.mean(right), abs=1e-9)


def test_a_cell_of_figure_6_is_half_the_texts_and_half_the_means(
    bench: Bench, tables: dict[str, Reproduction], encoder: Encoder
) -> None:
    table = bench.stored("caltech101")
    task, drawn = shots_of(table, 4)
    template = declared("datasets", DataSet)["caltech101"].template
    W = unit(encoder.encode_texts([template.format(name) for name in task.names]))
    X, codes = unit(table.vectors["raw"])[task.rows], task.codes
    right = []
    for shots in drawn.draws:
        M = unit(np.stack([X[of_class].mean(axis=0) for of_class in shots]))
        nearest = (0.5 * X @ M.T + 0.5 * X @ W.T).argmax(axis=1)
        right.append((nearest == codes)[task.is_test].mean())
    cell = Cell("few-shot-text", "caltech101", "demo", "prototype_text")
    found = tables["figure6"].outcomes[cell].figures["prototype+text@4"]
    assert found == pytest.approx(np.mean(right), abs=1e-9)


@pytest.mark.parametrize(
    ("figure", "dataset"), [("figure2", "dogs_vs_cats"), ("figure5", "imagenet_val")]
)
def test_figures_2_and_5_hold_the_mean_cosines_of_all_pairs(
    bench: Bench, tables: dict[str, Reproduction], figure: str, dataset: str
) -> None:
    table = bench.stored(dataset)
    labels = np.array(table.payload["class"])
    cosines = unit(table.vectors["raw"]) @ unit(table.vectors["raw"]).T
    above = np.triu(np.ones_like(cosines, dtype=bool), 1)
    same = labels[:, None] == labels
    cell = Cell("misalignment", dataset, "demo", "original")
    found = tables[figure].outcomes[cell].figures
    assert found["same_mean"] == pytest.approx(cosines[above & same].mean(), abs=1e-4)
    assert found["other_mean"] == pytest.approx(cosines[above & ~same].mean(), abs=1e-4)


def test_recovery_is_exact_from_as_many_texts_as_dimensions(
    bench: Bench, tables: dict[str, Reproduction], encoder: Encoder
) -> None:
    T = unit(encoder.encode_texts(AnchorSet.imagenet().prompts()))
    X = unit(bench.stored("caltech101").vectors["raw"])
    cell = Cell("recovery", "caltech101", "demo", "original")
    figures = tables["recovery"].outcomes[cell].figures
    rng = np.random.default_rng(7)
    errors = []
    for _ in range(20):
        some = T[rng.choice(len(T), X.shape[1] // 2, replace=False)]
        R = (np.linalg.pinv(some) @ (some @ X.T)).T
        errors.append(np.sqrt(np.mean((R @ R.T - X @ X.T)[np.triu_indices(len(X), 1)] ** 2)))
    # Five subsets of theirs against twenty of ours: four standard errors.
    margin = 4 * np.std(errors) / np.sqrt(5)
    assert figures["rms@0.5"] == pytest.approx(np.mean(errors), abs=margin)
    assert figures["rms@1"] is not None
    assert figures["rms@1"] < 0.01 < 0.1 < float(figures["rms@0.5"] or 0)


def test_oti_ranks_by_the_texts_that_it_keeps(bench: Bench, encoder: Encoder) -> None:
    found = bench.make("table3", datasets=["dtd"], methods=["oti"], limit=1)
    (outcome,) = found.outcomes.values()
    assert outcome.state == "done", outcome.reason
    collection = ImageCollection.open(bench.store, "paper-dtd-demo-limit-1")
    table = collection.table(["raw"], payload=["class", "split"])
    X, splits = table.vectors["raw"], np.array(table.payload["split"])
    asks = splits == "test"
    ids = [one for one, is_query in zip(table.ids, asks, strict=True) if is_query]
    keep = InversionMap(encoder).kept_in(bench.out / "work" / f"oti-{collection.name}.safetensors")
    kept = keep(ids, X[asks])
    assert kept.n_new == 0
    labels = np.array(table.payload["class"])
    hits = labels[asks][:, None] == labels[splits == "train"]
    expected = mean_ap(kept.texts, X[splits == "train"], hits)
    assert outcome.figures["mAP"] == pytest.approx(expected, abs=1e-6)


def test_a_second_call_measures_nothing_and_says_the_same(
    bench: Bench, tables: dict[str, Reproduction]
) -> None:
    again = bench.make("table2", datasets=["caltech101", "fgvc_aircraft", "imagenet"])
    assert all(outcome.is_kept for outcome in again.outcomes.values())
    first = tables["table2"].outcomes
    assert {c: o.figures for c, o in again.outcomes.items()} == {
        c: o.figures for c, o in first.items()
    }


def test_a_limited_run_says_so_everywhere(bench: Bench, tmp_path: Path) -> None:
    found = bench.make("table3", datasets=["dtd"], methods=["original"], limit=2)
    whole = bench.make("table3", datasets=["dtd"], methods=["original"])
    collection = ImageCollection.open(bench.store, "paper-dtd-demo-limit-2")
    assert 0 < collection.count() < ImageCollection.open(bench.store, "paper-dtd-demo").count()
    assert found.outcomes != whole.outcomes
    for file in found.write(tmp_path):
        is_marked = "2 images per class" in file.read_text(encoding="utf-8")
        assert is_marked, f"{file.name} does not say that it is a quick look"


def spoil(root: Path) -> None:
    """Lose a list, write a wrong entry and an unknown class, and break an image."""
    split = next(root.rglob("split_zhou_DescribableTextures.json"))
    split.unlink()
    wrong = next(root.rglob("split_zhou_EuroSAT.json"))
    entries = json.loads(wrong.read_text(encoding="utf-8"))
    entries["train"][0] = ["only a path"]
    wrong.write_text(json.dumps(entries), encoding="utf-8")
    unknown = next(root.rglob("split_zhou_Food101.json"))
    entries = json.loads(unknown.read_text(encoding="utf-8"))
    entries["test"][0][2] = "a class of its own"
    unknown.write_text(json.dumps(entries), encoding="utf-8")
    broken = next(p for p in (root / "oxford_pets").rglob("*.jpg"))
    broken.write_bytes(b"no image")


def test_a_broken_data_set_says_so_and_the_others_finish(tmp_path: Path, encoder: Encoder) -> None:
    names = ("caltech101", "dtd", "eurosat", "food101", "oxford_pets")
    for name in names:
        miniature.write(tmp_path / "data", name)
    spoil(tmp_path / "data")
    with (
        RunLedger.open(tmp_path / "runs.db") as ledger,
        open_store(str(tmp_path / "store")) as store,
    ):
        about = {"datasets": names, "models": ["demo"], "methods": ["original"]}
        about |= {"root": tmp_path / "data", "work": tmp_path / "work"}
        found = made_table("table3", store, ledger=ledger, **about)  # type: ignore[arg-type]
        recorded = {one.item: one.reason for one in ledger.failures(str(found.run_id))}
    by_name = {cell.dataset: outcome for cell, outcome in found.outcomes.items()}
    assert set(recorded) == {f"retrieval/{n}/demo/original" for n in ("dtd", "eurosat", "food101")}
    assert recorded["retrieval/dtd/demo/original"] == by_name["dtd"].reason
    assert {n for n, o in by_name.items() if o.state == "done"} == {"caltech101", "oxford_pets"}
    assert "split_zhou_DescribableTextures.json" in by_name["dtd"].reason
    assert "train[0]" in by_name["eurosat"].reason
    assert "a class of its own" in by_name["food101"].reason
    assert "1 images could not be read" in by_name["oxford_pets"].notes[0]
    shown = found.to_markdown()
    assert shown.count("failed") >= 3
    assert shown.count("split_zhou_DescribableTextures.json below") <= 1
    assert "*: the mean over fewer than all" in shown
    assert "could not be read" in shown


def test_a_plan_says_what_is_missing_and_what_it_costs(bench: Bench, tmp_path: Path) -> None:
    miniature.write(tmp_path / "data", "caltech101")
    plan = plan_reproduction(
        "table3",
        bench.store,
        ledger=bench.ledger,
        root=tmp_path / "data",
        datasets=["caltech101", "dtd"],
        models=["demo"],
        limit=3,
    ).to_dict()
    caltech, dtd = plan["images"]
    assert caltech["n_to_encode"] == caltech["n_images"] > caltech["n_to_invert"] > 0
    assert not caltech["missing"]
    assert "split_zhou_DescribableTextures.json" in dtd["missing"]
    assert all(cell["state"] == "open" for cell in plan["cells"])
    assert not bench.store.exists("paper-caltech101-demo-limit-3")


COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
from intramodal.cli import cli
cli()
"""


def command(bench_out: Path, root: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-c", COMMAND),
        *("reproduce", "table3", "--data", str(root)),
        *("--models", "demo", "--datasets", "caltech101,dtd"),
        *("--methods", "original,pca,random", "--out", str(bench_out), "--limit", "3", "--json"),
        *("--store", str(bench_out / "store"), "--runs", str(bench_out / "runs.db"), *more),
    ]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_limited_call_resumes_to_the_same_figures_and_costs_its_cell_only(
    tmp_path: Path,
) -> None:
    root = tmp_path / "data"
    for name in ("caltech101", "dtd"):
        miniature.write(root, name, size=SIZE)
    whole = subprocess.run(command(tmp_path / "whole", root), capture_output=True, check=True)
    killed = tmp_path / "killed"
    with subprocess.Popen(
        command(killed, root), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        n_done = wait_for_cells(killed / "runs.db", process, n=2)
        process.send_signal(signal.SIGKILL)
    resumed = subprocess.run(command(killed, root), capture_output=True, check=True)
    a, b = (json.loads(run.stdout) for run in (whole, resumed))
    assert [cell["figures"] for cell in a["cells"]] == [cell["figures"] for cell in b["cells"]]
    kept = [cell for cell in b["cells"] if cell["is_kept"]]
    assert n_done <= len(kept) < len(b["cells"])


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to another process")
def test_ctrl_c_keeps_the_finished_cells_in_one_sentence(tmp_path: Path) -> None:
    """Issue 20, item 10."""
    miniature.write(tmp_path / "data", "caltech101", size=SIZE)
    arguments = command(tmp_path, tmp_path / "data", "--datasets", "caltech101")
    with subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        n_done = wait_for_cells(tmp_path / "runs.db", process, n=1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    kept = "finished cells and what was ingested are kept; run the same command again to resume"
    assert stderr.splitlines()[-1] == f"Error: stopped; {kept}"
    assert "Traceback" not in stderr
    with RunLedger.open(tmp_path / "runs.db") as ledger:
        assert n_done <= len(ledger.runs(kind="reproduce-cell", status="COMPLETE")) < 3
        (run,) = ledger.runs(kind="reproduce")
        assert (run.status, run.error) == ("INTERRUPTED", "stopped by the user")


def wait_for_cells(path: Path, process: subprocess.Popen[Any], *, n: int) -> int:
    """Return the number of complete cells, once there are `n`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists():
            with RunLedger.open(path) as ledger:
                done = ledger.runs(kind="reproduce-cell", status="COMPLETE")
            if len(done) >= n:
                return len(done)
        time.sleep(0.02)
    raise AssertionError("the command ended, or took two minutes, before its first cells")


def test_the_tables_of_a_collection_of_ones_own(
    bench: Bench, tables: dict[str, Reproduction], tmp_path: Path
) -> None:
    on = ImageCollection.open(bench.store, "paper-ucf101-demo")
    found = made_table(
        "table3",
        bench.store,
        ledger=bench.ledger,
        work=tmp_path,
        on=on,
        labels=["class"],
        split="split",
        methods=["original", "pca"],
    )
    expected = bench.make("table3", datasets=["ucf101"], methods=["original", "pca"])
    assert [o.figures for o in found.outcomes.values()] == [
        o.figures for o in expected.outcomes.values()
    ]
    assert all(place.reference is None for place in found.grids()[0].places.values())


def test_other_labels_and_sides_of_a_collection_are_other_cells(
    bench: Bench, tables: dict[str, Reproduction], tmp_path: Path
) -> None:
    on = ImageCollection.open(bench.store, "paper-bdd100k-demo")
    table, found = bench.stored("bdd100k"), {}
    for labels, split in ((["weather"], None), (["scene"], None), (["scene"], "split")):
        given = {"ledger": bench.ledger, "work": tmp_path, "methods": ["original"]}
        done = made_table("table3", bench.store, on=on, labels=labels, split=split, **given)
        (outcome,) = done.outcomes.values()
        assert not outcome.is_kept
        found[labels[0], split] = outcome.figures["mAP"]
    assert len(set(found.values())) == 3
    expected = retrieved(table, table.vectors["raw"], "scene")
    assert found["scene", "split"] == pytest.approx(expected, abs=1e-3)


def test_changed_labels_of_as_many_images_are_measured_anew(tmp_path: Path) -> None:
    miniature.write(tmp_path, "roxford")
    truth = tmp_path / "roxford5k/gnd_roxford5k.pkl"
    with RunLedger.open(tmp_path / "runs.db") as ledger, open_store(":memory:") as store:
        about = {"ledger": ledger, "work": tmp_path / "work", "methods": ["original"]}
        there = {"root": tmp_path, "datasets": ["roxford"], "models": ["demo"], **about}
        (first,) = made_table("table3", store, **there).outcomes.values()  # type: ignore[arg-type]
        judged = pickle.loads(truth.read_bytes())
        for query in judged["gnd"]:
            query["hard"], query["junk"] = query["junk"], query["hard"]
        truth.write_bytes(pickle.dumps(judged, protocol=2))
        (other,) = made_table("table3", store, **there).outcomes.values()  # type: ignore[arg-type]
        assert other.figures["mAP hard"] != first.figures["mAP hard"]

        on = ImageCollection.open(store, "paper-roxford-demo")
        own = {"on": on, "labels": ["kind"], **about}
        ids = on.table(["raw"]).ids
        found = []
        for size in (2, 3):
            for at, point in enumerate(ids):
                on.store.set_payload(on.name, [point], {"kind": str(at // size)})
            (outcome,) = made_table("table3", store, **own).outcomes.values()  # type: ignore[arg-type]
            found.append(outcome.figures["mAP"])
        assert found[0] != found[1]


def test_fractions_are_printed_as_the_page_prints_them(
    tables: dict[str, Reproduction], capsys: pytest.CaptureFixture[str]
) -> None:
    with click.Context(cli):  # a page names the command that shows its run
        _show({**tables["figure2"].to_dict(), "files": []})
    printed = capsys.readouterr().out
    (grid,) = tables["figure2"].grids()
    values = [place.value for place in grid.places.values() if place.value is not None]
    assert values
    assert all(f" {value:.3f} " in printed for value in values)
    assert not grid.best()  # a larger overlap is no better one


def test_a_changed_split_file_is_read_again(tmp_path: Path) -> None:
    miniature.write(tmp_path, "dtd")
    file = tmp_path / "dtd/split_zhou_DescribableTextures.json"
    entries = json.loads(file.read_text(encoding="utf-8"))
    with RunLedger.open(tmp_path / "runs.db") as ledger, open_store(":memory:") as store:
        about = {"ledger": ledger, "root": tmp_path, "work": tmp_path / "work"}
        about |= {"datasets": ["dtd"], "models": ["demo"], "methods": ["original"]}

        def measured() -> Any:
            (outcome,) = made_table("table3", store, **about).outcomes.values()  # type: ignore[arg-type]
            return outcome

        first = measured()
        swapped = {**entries, "train": entries["test"], "test": entries["train"]}
        file.write_text(json.dumps(swapped), encoding="utf-8")
        assert measured().figures["mAP"] != first.figures["mAP"]
        fewer = {**entries, "test": entries["test"][:-2]}
        file.write_text(json.dumps(fewer), encoding="utf-8")
        for _ in range(2):  # the second call must not take what the first has refused
            assert "has 2 images that DTD no longer names" in measured().reason
        file.write_text(json.dumps(entries), encoding="utf-8")
        assert measured().figures == first.figures
        file.unlink()  # images are ingested, so their files may go
        assert measured().is_kept


def test_latex_is_balanced_and_escaped(tables: dict[str, Reproduction]) -> None:
    for found in tables.values():
        text = found.to_latex()
        assert text.isascii(), re.findall(r"[^\x00-\x7f]", text)[:3]
        for name in ("table", "tabular"):
            assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}")
        body = re.sub(r"\\[{}\\%&_#$]", "", text)
        assert body.count("{") == body.count("}")


def test_shots_of_clip_are_augmented_views_on_demand(bench: Bench) -> None:
    (demo,) = chosen("models", Model, ["demo"])
    given = {"datasets": ["caltech101"], "methods": ["original", "pca"], "limit": 3}
    plain = bench.make("table2", augment=True, **given)
    assert demo.augments_shots
    collection = ImageCollection.open(bench.store, "paper-caltech101-demo-augmented-limit-3")
    assert set(collection.vectors) == {"raw", "raw_augmented"}
    assert plain.n_failed == 0
    clean = bench.make("table2", **given)
    cell = Cell("few-shot", "caltech101", "demo", "original")
    assert plain.outcomes[cell].figures != clean.outcomes[cell].figures
    text = bench.make("figure6", augment=True, **{**given, "methods": ["prototype_text_pca"]})
    assert text.n_failed == 0


def test_a_name_that_is_there_twice_is_refused() -> None:
    with pytest.raises(InputError, match="'dtd' is there twice"):
        chosen("datasets", DataSet, ["dtd", "eurosat", "dtd"])
    with pytest.raises(InputError, match="'clip_b32' is there twice"):
        models_of(["clip_b32", "clip_b32=open_clip:local-dir:weights"])


def test_a_folder_that_cannot_be_made_is_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    given = ["table3", "--data", str(tmp_path), "--out", str(tmp_path / "file" / "out")]
    given += ["--store", ":memory:", "--runs", str(tmp_path / "runs.db")]
    done = CliRunner().invoke(cli, ["reproduce", *given])
    assert done.exit_code == 1
    assert "cannot be made" in done.output
    assert "failed" not in done.output


def test_a_model_may_have_weights_of_ones_own() -> None:
    (model,) = models_of(["dinov3_b16=local-dir:weights"])
    assert (model.encoder, model.condition, model.has_text) == ("local-dir:weights", "", False)
    with pytest.raises(InputError, match="names no encoder"):
        models_of(["slip_b16="])
    with pytest.raises(InputError, match="did you mean"):
        models_of(["clip_b23"])


def test_a_model_that_cannot_be_loaded_fails_its_cells_only(bench: Bench) -> None:
    found = bench.make(
        "table3",
        datasets=["dtd"],
        methods=["original"],
        models=["demo", "slip_b16=slip:no such file.pt"],
    )
    states = {cell.model: outcome for cell, outcome in found.outcomes.items()}
    assert states["demo"].state == "done"
    assert states["slip_b16"].state == "failed"
    assert "no such file.pt" in states["slip_b16"].reason


def test_every_few_shot_method_with_text_has_a_projected_form(bench: Bench) -> None:
    methods = [name for name, one in declared("methods", Method).items() if one.classifier]
    plain = {name for name in methods if not name.endswith("_pca")} - {"zero_shot"}
    assert {f"{name}_pca" for name in plain} < set(methods)
    given = {"datasets": ["dtd"], "limit": 6}
    found = bench.make("figure6", methods=sorted(plain | {f"{n}_pca" for n in plain}), **given)
    assert found.n_failed == 0
    figures = {cell.method: tuple(o.figures.values()) for cell, o in found.outcomes.items()}
    alike = {name for name in plain if figures[name] == figures[f"{name}_pca"]}
    assert not alike, {name: figures[name] for name in alike}


def test_cropped_queries_are_other_images_of_another_collection(bench: Bench) -> None:
    given = {"datasets": ["roxford"], "methods": ["original"]}
    whole, cropped = (bench.make("table3", crop=crop, **given) for crop in (False, True))
    assert cropped.n_failed == 0
    ((_, a),), ((_, b),) = whole.outcomes.items(), cropped.outcomes.items()
    assert a.figures != b.figures
    assert bench.store.exists("paper-roxford-demo-cropped")


def test_a_damaged_projection_is_no_reason_to_fit_another(tmp_path: Path) -> None:
    miniature.write(tmp_path, "dtd")
    with RunLedger.open(tmp_path / "runs.db") as ledger, open_store(":memory:") as store:
        given: dict[str, Any] = {"ledger": ledger, "root": tmp_path, "work": tmp_path / "work"}
        given |= {"datasets": ["dtd"], "models": ["demo"]}
        assert made_table("table3", store, methods=["pca"], **given).n_failed == 0
        (file,) = (tmp_path / "work").glob("*.safetensors")
        content = file.read_bytes()
        file.write_bytes(content[:-9])
        found = made_table("table3", store, methods=["pca", "random"], **given)
        states = {cell.method: outcome for cell, outcome in found.outcomes.items()}
        assert states["pca"].is_kept
        assert states["random"].state == "failed"
        assert file.name in states["random"].reason
        assert file.read_bytes() == content[:-9]
