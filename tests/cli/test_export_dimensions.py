"""What the figures of every kind of run are of, in `runs export` and `runs table`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from intramodal import open_store
from intramodal.commands.options import DEFAULT_STORE
from tests.cli import evaluated, kit

LABELS = ("--labels", "kind")
TEXTS = ("--text-vectors", "kinds.npy")
SHOTS = ("--shots", "1,2", "--episodes", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two collections of different models and data sets."""
    folder = tmp_path_factory.mktemp("shop")
    with open_store(str(folder / DEFAULT_STORE)) as store:
        evaluated.fill(store, dataset="holiday")
        evaluated.fill(store, "prints", encoder="siglip", n=60)
    kinds = np.random.default_rng(3).normal(size=(evaluated.N_KINDS, evaluated.DIM))
    np.save(folder / "kinds.npy", kinds.astype(np.float32))
    np.save(folder / "T.npy", evaluated.texts())
    return folder


@pytest.fixture(autouse=True)
def there(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("INTRAMODAL_RUNS", str(tmp_path / "runs.db"))


def exported(*command: str) -> list[dict[str, str]]:
    """Run a command and return the rows of the export."""
    kit.run(*command)
    kit.run("runs", "export", "-o", "runs.csv")
    with Path("runs.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def values(rows: list[dict[str, str]], name: str) -> set[str]:
    return {row[name] for row in rows}


@pytest.mark.parametrize(
    ("command", "metric", "methods"),
    [
        (("evaluate", "retrieval", "photos", *LABELS), "mAP", {"raw", "pca"}),
        (("evaluate", "text", "photos", *LABELS, *TEXTS), "mAP", {"raw"}),
        (("compare", "photos", *LABELS, "--no-controls"), "mAP", {"raw", "pca"}),
        (("compare", "photos", *LABELS, "--no-controls"), "mAP delta", {""}),
        (("compare", "photos"), "neighbour overlap@10", {""}),
        (("evaluate", "misalignment", "photos", *LABELS), "auc", {"raw"}),
        (("evaluate", "recovery", *evaluated.COMMANDS["recovery"]), None, {"raw"}),
        (
            ("evaluate", "index", "photos", *LABELS, "--searches", "raw,pca:raw", "-k", "10"),
            "recall@10",
            {"raw", "pca > raw"},
        ),
        (("export", "photos", "--vector", "pca", "-o", "pca.npy"), "rows", {"pca"}),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else None,
)
def test_every_figure_has_its_collection_data_set_model_and_method(
    command: tuple[str, ...], metric: str | None, methods: set[str]
) -> None:
    rows = [row for row in exported(*command) if metric in (None, row["metric"])]
    assert values(rows, "collection") == {"photos"}
    assert values(rows, "dataset") == {"holiday"}
    assert values(rows, "model") == {"clip"}
    assert values(rows, "method") == methods
    assert values(rows, "classifier") == values(rows, "shots") == {""}


@pytest.mark.parametrize(
    ("command", "classifier"),
    [(("fewshot", "photos"), "prototype"), (("fewshot-text", "photos", *TEXTS), "tip-adapter")],
)
def test_every_accuracy_has_its_classifier_and_shots(
    command: tuple[str, ...], classifier: str
) -> None:
    rows = exported("evaluate", *command, *LABELS, *SHOTS)
    assert values(rows, "metric") == {"accuracy"}
    assert values(rows, "shots") == {"1", "2"}
    assert classifier in values(rows, "classifier")
    assert values(rows, "model") == {"clip"}
    assert values(rows, "dataset") == {"holiday"}


def test_figures_of_several_collections_each_have_their_own_model() -> None:
    rows = exported("evaluate", "misalignment", "photos", "prints", *LABELS)
    names = ("collection", "dataset", "model", "method")
    assert {tuple(row[name] for name in names) for row in rows} == {
        ("photos", "holiday", "clip", "raw"),
        ("prints", "prints", "siglip", "raw"),
    }


def test_a_table_of_a_collection_has_a_row_for_each_method() -> None:
    kit.run("evaluate", "retrieval", "photos", *LABELS)
    kit.run("evaluate", "retrieval", "prints", *LABELS)
    found = kit.run("runs", "table", "--rows", "model", "--cols", "dataset")
    assert found["heads"] == ["model", "method"]
    assert found["columns"] == ["holiday", "prints"]
    assert [row["head"] for row in found["rows"]] == [
        [model, method] for model in ("clip", "siglip") for method in ("pca", "raw")
    ]
