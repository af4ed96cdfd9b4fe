"""Results become JSON, data frames and notebook tables without losing or inventing figures."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from intramodal.errors import MissingDependencyError
from intramodal.evaluation.fewshot import FewshotResult
from intramodal.evaluation.retrieval import RetrievalResult
from intramodal.runs.frames import json_values

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
