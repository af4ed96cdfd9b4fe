"""Payload columns become classes, and nothing merges or vanishes silently."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import intramodal
from intramodal.errors import InputError
from intramodal.evaluation.advice import advise
from intramodal.evaluation.compare import compare
from intramodal.evaluation.fewshot import evaluate_fewshot
from intramodal.evaluation.fewshot_text import evaluate_fewshot_text
from intramodal.evaluation.index import evaluate_index
from intramodal.evaluation.index_search import IndexSearch
from intramodal.evaluation.labels import encode_labels, look_alikes, warn_of_look_alikes
from intramodal.evaluation.misalignment import measure_misalignment
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.evaluation.rivals.oti import Inversion, evaluate_inversion
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.evaluation.text_retrieval import evaluate_text_retrieval
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.types import VectorTable

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(["1", "2", "True", "a", "b", "", "1 (text)"]),
    st.sampled_from([1.0, 1.5, float("nan")]),
)


def test_classes_are_sorted_by_text_and_rows_without_a_value_are_counted():
    found = encode_labels(["b", None, "a", "b", float("nan"), "", []])
    assert found.names == ["a", "b"]
    assert found.rows.tolist() == [0, 2, 3]
    assert found.codes.tolist() == [1, 0, 1]
    assert (found.n_missing, found.n_dropped, found.is_multi) == (4, 0, False)
    assert (found.rows.dtype, found.codes.dtype) == (np.intp, np.int64)


def test_values_that_print_alike_stay_apart_and_their_names_say_their_kind():
    found = encode_labels([True, 1, "1", "True", 1.0])
    assert found.names == ["1 (number)", "1 (text)", "True (bool)", "True (text)"]
    assert found.codes.tolist() == [2, 0, 1, 3, 0]
    assert [type(value) for value in found.values] == [int, str, bool, str]


def test_whole_floats_are_integers_and_others_are_not():
    assert encode_labels([2012, 2012.0, 2012.5]).names == ["2012", "2012.5"]


def test_numpy_scalars_are_the_values_that_they_hold():
    found = encode_labels([np.int64(1), 1, np.str_("x"), np.bool_(True)])
    assert found.names == ["1", "True", "x"]
    assert found.codes.tolist() == [0, 0, 2, 1]


def test_small_classes_are_dropped_and_their_rows_counted():
    found = encode_labels(["a", "a", "b", "b", "c", None], min_class_size=2)
    assert found.names == ["a", "b"]
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert (found.n_missing, found.n_dropped) == (1, 1)
    assert found.class_sizes.tolist() == [2, 2]


def test_lists_give_several_classes_a_row():
    found = encode_labels([["x", "y", "x"], "y", ["z", None], []])
    assert found.is_multi
    assert found.codes.shape == (0,)
    assert found.indptr.tolist() == [0, 2, 3, 4]
    assert found.indices.tolist() == [0, 1, 1, 2]
    assert found.labels() == [("x", "y"), ("y",), ("z",)]
    assert (found.n_missing, found.n_dropped) == (1, 0)


def test_a_row_of_several_values_keeps_those_of_large_classes():
    found = encode_labels([["x", "rare"], ["x", "y"], "y", "lone"], min_class_size=2)
    assert found.labels() == [("x",), ("x", "y"), ("y",)]
    assert found.n_dropped == 1


def test_lists_of_one_value_are_a_single_valued_field():
    found = encode_labels([["x"], ["y", "y"], "x"])
    assert not found.is_multi
    assert found.codes.tolist() == [0, 1, 0]
    assert found.labels() == ["x", "y", "x"]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([{"lat": 1}], r"row 0 of field 'place' holds a dict"),
        (["a", [["b"]]], r"row 1 of field 'place' holds a list"),
        ([None, [], " "], "no point has a value in field 'place'"),
        ([], "no point has a value"),
        (["sky", "sky", None], r"one class only, 'sky' in 2 points"),
        ([1.5, 2.5, 3.5], r"0 classes of at least 2 points, of 3 in all \(the largest has 1\)"),
    ],
)
def test_columns_that_hold_no_classes_are_refused_with_what_was_found(column, words):
    with pytest.raises(InputError, match=words):
        encode_labels(column, min_class_size=2, field="place")


def test_a_least_class_size_below_one_is_refused():
    with pytest.raises(InputError, match="min_class_size"):
        encode_labels(["a", "b"], min_class_size=0)


@given(st.lists(st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=12))
def test_every_row_is_kept_missing_or_dropped_and_names_are_unique(column):
    try:
        found = encode_labels(column, min_class_size=2)
    except InputError:
        return
    assert len(found) + found.n_missing + found.n_dropped == len(column)
    assert len(set(found.names)) == len(found.names)
    assert found.names == sorted(found.names)
    assert (found.class_sizes >= 2).all()
    assert found.indptr[-1] == len(found.indices)
    assert (np.diff(found.indptr) >= 1).all()


@given(st.lists(SCALARS, min_size=2, max_size=8), st.randoms())
def test_the_classes_do_not_depend_on_the_order_of_the_rows(column, random):
    shuffled = random.sample(column, len(column))
    try:
        names = encode_labels(column).names
    except InputError:
        return
    assert encode_labels(shuffled).names == names


@pytest.mark.parametrize(
    "labels",
    [
        [1, "1", "1.0", " 01"],
        ["Red", "red", "RED ", "r ed"],
        ["caf\u00e9", "cafe\u0301", "CAFE\u0301"],
        ["Stra\u00dfe", "STRASSE"],
        ["light blue", "light\u00a0blue", "light  blue", "light\u200bblue"],
        [True, "true"],
        [0.1, "0.10"],
    ],
)
def test_labels_that_a_reader_takes_for_the_same_are_one_group(labels: list[Any]) -> None:
    assert look_alikes(["other", *labels, 7]) == [labels]
    # They stay different classes.
    assert len(encode_labels(labels).names) == len(labels)


@pytest.mark.parametrize(
    "labels",
    [
        [True, 1],
        ["m2", "m\u00b2"],  # a reader sees the superscript
        [1, 1.5, "1.50001", "-1"],
        ["e", "\u00e9", "E1", "1e1", 10],
        [10**30, 10**30 + 1, str(10**30 + 2)],  # no rounding to floats
        ["t-shirt", "t shirt", "t.shirt"],
    ],
)
def test_labels_that_a_reader_tells_apart_are_not_pointed_out(labels: list[Any]) -> None:
    assert look_alikes(labels) == []


def test_the_warning_names_what_differs(caplog: pytest.LogCaptureFixture) -> None:
    column = [
        "Red",
        "red",
        1,
        1.0,
        "1",
        None,
        ["\u00e9", "e\u0301"],
        "x\x1b[2J",
        "X\x1b[2J",
        "b",
        "z ",
    ]
    warn_of_look_alikes([*column, "Z", np.int64(1)], "kind")
    (words,) = caplog.messages
    assert words == (
        "field 'kind' has labels that look alike and count as different (5 groups): 1, '1'; "
        "'Red', 'red'; 'X\\x1b[2J', 'x\\x1b[2J'; and 2 more; write them alike in the payload if "
        "they mean the same"
    )
    warn_of_look_alikes(["caf\u00e9", "cafe\u0301"], "place")
    assert r"(1 group): 'cafe\u0301', 'caf\xe9'; write" in caplog.messages[-1]
    warn_of_look_alikes(["a", "b", 1, 1.0, 2, None, {"a": 1}, "", " ", float("nan")], "kind")
    assert len(caplog.messages) == 2


ROWS = np.eye(6, 3, dtype=np.float32) + 1
TABLE = VectorTable(list(range(6)), {"raw": ROWS, "pca": ROWS}, {"kind": list("ababab")})


def collection_of(table: VectorTable) -> ImageCollection:
    """Return the table as a collection in memory."""
    store, spec = open_store(":memory:"), (3, VectorOrigin("test", "0" * 64))
    found = ImageCollection.create(store, "shop", dict.fromkeys(table.vectors, spec))
    payloads = [{name: column[i] for name, column in table.payload.items()} for i in range(6)]
    store.upsert("shop", table.ids, table.vectors, payloads)
    return found


def inverted(table: VectorTable, **options: Any) -> Any:
    """Retrieve with texts that are the pictures' own vectors."""
    texts, ones = table.vectors["raw"], np.ones(len(table), dtype=np.float32)
    return evaluate_inversion(table, Inversion(table.ids, texts, texts, ones, ones, 0), **options)


JOBS_OF_QUERIES: dict[str, Callable[..., Any]] = {
    "compare": lambda **options: compare(TABLE, tasks=["retrieval"], **options),
    "evaluate_index": lambda **options: evaluate_index(
        collection_of(TABLE), searches=[IndexSearch("raw")], k=2, **options
    ),
    "evaluate_inversion": lambda **options: inverted(TABLE, **options),
    "evaluate_retrieval": lambda **options: evaluate_retrieval(TABLE, **options),
}


@pytest.mark.parametrize("job", JOBS_OF_QUERIES)
@pytest.mark.parametrize("max_queries", [0, -1, 2.5, True])
def test_no_job_draws_fewer_than_one_query(job: str, max_queries: Any) -> None:
    """Issue 17: 0 was said to leave no relevant image, and -1 left the last query out."""
    JOBS_OF_QUERIES[job](fields=["kind"], max_queries=3)
    words = f"max_queries must be a whole number from 1, got {max_queries}; leave it out"
    with pytest.raises(InputError, match=words):
        JOBS_OF_QUERIES[job](fields=["kind"], max_queries=max_queries)


def test_all_jobs_that_draw_queries_are_among_those_tested() -> None:
    public = {name: getattr(intramodal, name) for name in intramodal.__all__}
    jobs = {name: job for name, job in public.items() if inspect.isfunction(job)}
    drawing = {n for n, job in jobs.items() if "max_queries" in inspect.signature(job).parameters}
    assert drawing == set(JOBS_OF_QUERIES)


def test_one_query_may_be_drawn() -> None:
    assert len(RetrievalTask.from_table(TABLE, "kind", max_queries=1).query_rows) == 1


ALIKE = VectorTable(TABLE.ids, TABLE.vectors, {"kind": [*"aabbAA"], "on": ["train", "test"] * 3})
TEXTS = np.eye(3, dtype=np.float32)

_MORE = np.random.default_rng(0).normal(size=(120, 8)).astype(np.float32)
MANY_ALIKE = VectorTable(list(range(120)), {"raw": _MORE}, {"kind": [*"aabbAA"] * 20})

JOBS_OF_LABELS: dict[str, Callable[..., Any]] = {
    "advise": lambda: advise(MANY_ALIKE, fields=["kind"]),
    "compare": lambda: compare(ALIKE, fields=["kind"]).curves(),
    "evaluate_fewshot": lambda: evaluate_fewshot(ALIKE, fields=["kind"], test_share=0.5),
    "evaluate_fewshot_text": lambda: evaluate_fewshot_text(
        ALIKE, texts=TEXTS, fields=["kind"], methods=["zero-shot"], validation=0, sides="on"
    ),
    "evaluate_index": lambda: evaluate_index(
        collection_of(ALIKE), searches=[IndexSearch("raw")], fields=["kind"], k=2
    ),
    "evaluate_inversion": lambda: inverted(ALIKE, fields=["kind"]),
    "evaluate_retrieval": lambda: evaluate_retrieval(ALIKE, fields=["kind"], sides="on"),
    "evaluate_text_retrieval": lambda: evaluate_text_retrieval(
        ALIKE, texts=TEXTS, fields=["kind"]
    ),
    "measure_misalignment": lambda: measure_misalignment(
        ALIKE, vectors=["raw", "pca"], fields=["kind"], texts=TEXTS, with_bands=True
    ),
}


@pytest.mark.parametrize("job", JOBS_OF_LABELS)
def test_every_job_points_out_labels_that_look_alike_once(
    job: str, caplog: pytest.LogCaptureFixture
) -> None:
    JOBS_OF_LABELS[job]()
    alike = [words for words in caplog.messages if "look alike" in words]
    assert len(alike) == 1
    assert "'A', 'a'" in alike[0]


def test_all_jobs_that_read_labels_are_among_those_tested() -> None:
    public = {name: getattr(intramodal, name) for name in intramodal.__all__}
    jobs = {name: job for name, job in public.items() if inspect.isfunction(job)}
    assert {n for n, job in jobs.items() if "fields" in inspect.signature(job).parameters} == set(
        JOBS_OF_LABELS
    )
