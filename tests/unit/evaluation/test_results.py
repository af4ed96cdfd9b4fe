"""Results become JSON, data frames and notebook tables without losing or inventing figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from intramodal.errors import MissingDependencyError
from intramodal.evaluation.agreement import neighbour_overlap
from intramodal.evaluation.compare import compare
from intramodal.evaluation.fewshot import FewshotResult, evaluate_fewshot
from intramodal.evaluation.misalignment import measure_misalignment, misalignment_of
from intramodal.evaluation.precision_recall import precision_recall
from intramodal.evaluation.recovery import recovery_curve
from intramodal.evaluation.result_pair import compare_results
from intramodal.evaluation.retrieval import RetrievalResult, evaluate_retrieval
from intramodal.evaluation.sweep import DimensionSweep
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.evaluation.text_retrieval import evaluate_text_retrieval
from intramodal.runs.frames import json_values
from intramodal.types import VectorTable

HOSTILE = "<script>alert('x')</script>"


def retrieval(labels: list, ap: list[float]) -> RetrievalResult:
    n = len(ap)
    return RetrievalResult(
        vector="raw",
        field=HOSTILE,
        protocol="leave-one-out",
        query_ids=list(range(n)),
        labels=labels,
        ap=np.array(ap, dtype=np.float64),
        metrics={"recall@1": np.arange(n) % 2 / 1.0},
        n_relevant=np.full(n, 3),
        n_gallery=10,
        n_without_positives=1,
        tie_width=0.0,
    )


def fewshot(accuracy: list[list[float]]) -> FewshotResult:
    n_shots = len(accuracy)
    return FewshotResult(
        vector="raw",
        field=HOSTILE,
        classifier="prototype",
        shots=tuple(2**i for i in range(n_shots)),
        accuracy=np.array(accuracy, dtype=np.float64),
        class_names=["a", "b"],
        class_accuracy=np.full((n_shots, 2), 0.5),
        n_test=np.full(n_shots, 4.0),
        seed=0,
        ids=["x", "y"],
        labels=["a", "b"],
        n_correct=np.ones((n_shots, 2), dtype=np.int64),
        n_tested=np.full((n_shots, 2), 2),
        n_pool=np.full(n_shots, 3.0),
        extra={"n_missing": 0},
    )


def test_class_means_are_the_means_of_the_queries_of_each_class():
    result = retrieval(["b", "a", "b"], [0.25, 1.0, 0.75])
    assert result.class_mean() == {"a": (1.0, 1), "b": (0.5, 2)}


def test_a_query_of_several_labels_counts_in_each_of_them():
    result = retrieval([("a", "b"), ("b",)], [0.5, 1.0])
    assert result.class_mean() == {"a": (0.5, 1), "b": (0.75, 2)}


def test_a_retrieval_result_is_json_with_its_means():
    row = json.loads(json.dumps(retrieval(["a", "b"], [0.25, 0.75]).to_dict(), allow_nan=False))
    assert (row["map"], row["n_queries"], row["n_gallery"]) == (0.5, 2, 10)
    assert row["metrics"] == {"recall@1": 0.5}
    assert row["classes"] == {"a": {"ap": 0.25, "n_queries": 1}, "b": {"ap": 0.75, "n_queries": 1}}


def test_a_retrieval_result_without_queries_has_a_null_mean():
    row = retrieval([], []).to_dict()
    assert row["map"] is None
    assert row["metrics"] == {"recall@1": None}


def test_a_retrieval_frame_has_one_row_a_query():
    frame = retrieval(["a", ("b", "c")], [0.25, 0.75]).to_frame()
    assert frame["ap"].tolist() == [0.25, 0.75]
    assert frame["label"].tolist() == ["a", ("b", "c")]
    assert frame["recall@1"].tolist() == [0.0, 1.0]


def test_few_shot_means_and_errors_are_over_episodes():
    result = fewshot([[0.4, 0.6], [0.8, 1.0]])
    assert result.mean.tolist() == pytest.approx([0.5, 0.9])
    # The standard deviation of two values 0.2 apart is 0.2 / sqrt(2); of their mean, 0.1.
    assert result.standard_error.tolist() == pytest.approx([0.1, 0.1])


def test_one_episode_has_no_standard_error():
    assert np.isnan(fewshot([[0.4]]).standard_error).all()


def test_what_could_not_be_computed_is_null_in_json():
    row = fewshot([[0.4, 0.6], [np.nan, np.nan]]).to_dict()
    assert row["shots"]["2"]["accuracy"] is None
    assert row["shots"]["1"]["accuracy"] == pytest.approx(0.5)
    json.dumps(row, allow_nan=False)


def test_a_few_shot_frame_has_one_row_an_episode():
    frame = fewshot([[0.4, 0.6], [0.8, 1.0]]).to_frame()
    assert frame[["shots", "episode", "accuracy"]].to_numpy().tolist() == [
        [1, 0, 0.4],
        [1, 1, 0.6],
        [2, 0, 0.8],
        [2, 1, 1.0],
    ]


@pytest.mark.parametrize("result", [retrieval(["a"], [1.0]), fewshot([[0.4, np.nan]])])
def test_notebook_tables_escape_names_and_reprs_are_one_line(result):
    page = result._repr_html_()
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert "\n" not in repr(result)


@pytest.mark.parametrize("result", [retrieval(["a"], [1.0]), fewshot([[0.4]])])
def test_a_frame_without_pandas_names_the_extra(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match=r"intramodal\[notebook\]"):
        result.to_frame()


def test_json_values_turn_arrays_into_lists_and_infinity_into_null():
    given = {1: np.array([[1, 2]]), "x": (np.float32(0.5), float("inf"), True, None, "s")}
    assert json_values(given) == {"1": [[1, 2]], "x": [0.5, None, True, None, "s"]}


def _table() -> VectorTable:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 6
    centres = rng.normal(size=(6, 16))
    vectors = {
        name: (centres[labels] + noise * rng.normal(size=(60, 16))).astype(np.float32)
        for name, noise in (("raw", 2.0), ("pca", 1.0))
    }
    return VectorTable(list(range(60)), vectors, {"kind": [f"class {c}" for c in labels]})


def _results() -> dict[str, Any]:
    table = _table()
    sweep = DimensionSweep(
        field="kind", dims=[1, 2], map=[0.4, 0.5], raw_map=0.3, knee=2, n_queries=9
    )
    texts = np.random.default_rng(1).normal(size=(40, 16)).astype(np.float32)
    found = evaluate_retrieval(table, vectors=["raw", "pca"], fields=["kind"])
    return {
        "comparison": compare(table, "raw", "pca", fields=["kind"], tasks=("retrieval",)),
        "retrieval": found,
        "few-shot": evaluate_fewshot(table, vectors=["raw", "pca"], fields=["kind"], episodes=5),
        "misalignment": measure_misalignment(table, fields=["kind"]),
        "histogram": misalignment_of(table, vector="raw", field="kind"),
        "recovery": recovery_curve(table, vector="raw", texts=texts),
        "sweep": sweep,
        "text retrieval": evaluate_text_retrieval(
            table, texts=texts[:6], vector="raw", fields=["kind"]
        ),
        "differences": compare_results(found["kind", "raw"], found["kind", "pca"]),
        "precision by recall": precision_recall(
            table, RetrievalTask.of_all(table, "kind"), vectors=["raw", "pca"]
        ),
        "neighbours": neighbour_overlap(table, ("raw", "pca")),
    }


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return _results()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("comparison", "kind: mAP"),
        ("retrieval", "kind: pca: 0."),
        ("few-shot", "pca, prototype"),
        ("misalignment", "same class"),
        ("histogram", "same class"),
        ("recovery", "anchors (texts)"),
        ("sweep", "knee"),
        ("text retrieval", "kind: raw: 0."),
        ("differences", "change in mean AP"),
        ("precision by recall", "random ranking"),
        ("neighbours", "nearest neighbours in common"),
    ],
)
def test_a_result_draws_itself_as_one_well_formed_svg(
    results: dict[str, Any], tmp_path: Path, name: str, told: str
) -> None:
    plot = results[name].plot()
    plot.save(tmp_path / "plot.svg")
    root = ElementTree.parse(tmp_path / "plot.svg").getroot()
    panels = [child for child in root if child.tag.endswith("svg")]
    assert len(panels) == len(plot.panels) >= 1
    assert told in "".join(root.itertext())
    # In user units, so that a stack of plots is as high as its parts.
    heights = [float(panel.attrib["height"]) for panel in panels]
    assert float(root.attrib["viewBox"].split()[3]) > sum(heights) > 0
    assert plot._repr_svg_() == plot.svg
    assert all(panel in plot._repr_html_() for panel in plot.panels)


def test_no_result_and_no_table_prints_its_arrays(results: dict[str, Any]) -> None:
    """A table of vectors printed 16,000 characters (issue 21)."""
    table = repr(_table())
    assert table == "VectorTable(60 points, vectors {'raw': 16, 'pca': 16}, fields ['kind'])"
    shown = {name: repr(result) for name, result in results.items()}
    assert all(len(text) < 800 and " object at 0x" not in text for text in shown.values()), shown
    assert "kind: better, mAP" in shown["comparison"]
