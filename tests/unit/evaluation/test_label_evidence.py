"""Control and accuracy stand beside every figure of a map that has seen labels, by every job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.evaluation.compare import compare
from intramodal.evaluation.fewshot import evaluate_fewshot
from intramodal.evaluation.fewshot_text import evaluate_fewshot_text
from intramodal.evaluation.index import evaluate_index
from intramodal.evaluation.index_search import IndexSearch
from intramodal.evaluation.label_evidence import LabelEvidence
from intramodal.evaluation.labelled_rows import labelled_rows
from intramodal.evaluation.misalignment import VectorOf, measure_misalignment
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.fit_rows import FitRows
from intramodal.ingest.backfill.in_place import backfill
from intramodal.projection.fit import fit_label_map, fit_posterior
from intramodal.projection.posterior import StoredMap
from intramodal.projection.projection import Projection
from intramodal.reports.report import document_of, render_report
from intramodal.reports.tables import render_markdown
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store

N, D, K = 240, 40, 4
HALF = FitRows(share=0.5)
FIELD = ("kind",)
BOTH = pytest.mark.parametrize("posterior", [False, True])


@pytest.fixture
def photos() -> Iterator[ImageCollection]:
    rng = np.random.default_rng(1)
    kinds = rng.integers(K, size=N)
    X = (rng.normal(size=(N, D)) + rng.normal(size=(K, D))[kinds]).astype(np.float32)
    payloads = [
        {"kind": f"k{kind}", "side": ("train", "test")[i // 2 % 2]} for i, kind in enumerate(kinds)
    ]
    with open_store(":memory:") as store:
        made = ImageCollection.create(store, "photos", {"raw": (D, VectorOrigin("clip", "ab"))})
        made.write(list(range(N)), {"raw": X}, payloads)
        yield made


def fitted(photos: ImageCollection, *, posterior: bool = False) -> StoredMap:
    rows = labelled_rows(photos, "kind", rows=HALF)
    return fit_posterior(rows, force=True) if posterior else fit_label_map(rows)


def stored(photos: ImageCollection, *, posterior: bool = False) -> str:
    made = fitted(photos, posterior=posterior)
    backfill(photos, made)
    return made.default_vector


def is_whole(beside: LabelEvidence | dict[str, Any] | None) -> bool:
    """Return whether control, chance and accuracy are there, and are what they must be."""
    assert beside is not None
    values = beside if isinstance(beside, dict) else beside.to_dict()
    assert values["control"] == pytest.approx(values["chance"], abs=0.08)
    assert 2 / K < values["accuracy"] <= 1
    return True


@BOTH
def test_a_map_beside_a_comparison(photos: ImageCollection, *, posterior: bool) -> None:
    of_store, beside = stored(photos, posterior=not posterior), fitted(photos, posterior=posterior)
    found = compare(photos, "raw", of_store, fields=FIELD, beside=[beside])
    evidence = found.to_dict()["fields"]["kind"]["label_evidence"]
    assert set(evidence) == {of_store, beside.default_vector}
    assert all(map(is_whole, evidence.values()))
    # The same map is the same figure, stored or beside.
    backfill(photos, beside)
    alone = evaluate_retrieval(photos, vectors=[beside.default_vector], fields=FIELD)
    one = alone["kind", beside.default_vector].label_evidence
    assert one is not None
    assert one.accuracy == pytest.approx(evidence[beside.default_vector]["accuracy"], abs=0.02)


@pytest.mark.parametrize("rerank", [None, 20])
def test_a_query_side_of_labels(photos: ImageCollection, rerank: int | None) -> None:
    made = fitted(photos)
    assert isinstance(made, Projection)
    side: dict[str, Any] = {"query_side": made, "rerank": rerank}
    (figures,) = compare(photos, fields=FIELD, **side).to_dict()["fields"].values()
    ((name, beside),) = figures["label_evidence"].items()
    assert is_whole(beside)
    search = IndexSearch("raw", exact=True, **side)
    (row,) = evaluate_index(photos, searches=[search], fields=FIELD, n_timed=2).to_dict()["rows"]
    assert is_whole(row["label_evidence"][name])
    backfill(photos, made)
    (of_store,) = evaluate_retrieval(photos, vectors=[made.default_vector], fields=FIELD)
    assert of_store.label_evidence is not None
    # The query side classifies as the map does: that is what the map has seen labels for.
    assert beside["accuracy"] == pytest.approx(of_store.label_evidence.accuracy)


def test_candidates_and_fused_searches_by_a_map_of_labels(photos: ImageCollection) -> None:
    name = stored(photos)
    searches = [IndexSearch("raw", prefetch=name), IndexSearch("raw", fuse=name)]
    found = evaluate_index(photos, searches=searches, fields=FIELD, n_timed=2)
    for row in found.to_dict()["rows"]:
        assert list(row["label_evidence"]) == [name]
        assert is_whole(row["label_evidence"][name])


@BOTH
def test_misalignment_shows_it_and_all_vectors_face_the_same_rows(
    photos: ImageCollection, *, posterior: bool
) -> None:
    name = stored(photos, posterior=posterior)
    found = measure_misalignment(photos, vectors=["raw", name], fields=FIELD)
    assert found["kind", "raw"]["label_evidence"] is None
    assert is_whole(found["kind", name]["label_evidence"])
    assert found["kind", "raw"]["n_points"] == found["kind", name]["n_points"] < N
    assert "shuffled" in repr(found)
    assert "shuffled" in found._repr_html_()
    targets = [VectorOf(photos, "raw"), VectorOf(photos, name)]
    held_out = measure_misalignment(targets, fields=FIELD).to_dict()["held_out"]
    assert held_out["n_fit_rows"] == sum(map(HALF.holds, range(N)))


@pytest.mark.parametrize(
    ("protocol", "posterior"), [("nested", False), ("nested", True), ("paper", False)]
)
def test_few_shots_by_both_protocols(
    photos: ImageCollection, protocol: Any, *, posterior: bool
) -> None:
    name, made = stored(photos, posterior=posterior), fitted(photos, posterior=posterior)
    maps: Any = {"projections": [made]} if protocol == "paper" else {}
    how: Any = {"fields": FIELD, "shots": [4], "episodes": 3, "protocol": protocol, **maps}
    found = evaluate_fewshot(photos, vectors=["raw", name], sides="side", **how)
    assert not {i for i in range(N) if HALF.holds(i)} & set(found["kind", name]["lda"].ids)
    assert is_whole(found.to_dict()["label_evidence"]["kind"][name])
    assert "shuffled" in repr(found)
    assert "shuffled" in found._repr_html_()


@pytest.mark.parametrize("protocol", ["nested", "paper"])
def test_few_shots_with_texts(photos: ImageCollection, protocol: str) -> None:
    name, made = stored(photos), fitted(photos)
    texts = np.random.default_rng(2).normal(size=(K, D)).astype(np.float32)
    how: Any = {"protocol": protocol, "methods": ["zero-shot", "prototype"]}
    how |= {"projections": [made]} if protocol == "paper" else {}
    found = evaluate_fewshot_text(
        photos, texts=texts, by=["raw", name], fields=FIELD, sides="side", shots=[4], episodes=2,
        **how,
    )  # fmt: skip
    assert not {i for i in range(N) if HALF.holds(i)} & set(found.results[0].ids)
    assert is_whole(found.to_dict()["label_evidence"]["kind"][name])


def test_results_show_it_themselves(photos: ImageCollection) -> None:
    name = stored(photos)
    found = evaluate_retrieval(photos, vectors=["raw", name], fields=FIELD)
    assert repr(found).count("fitted to shuffled") == 1
    assert found._repr_html_().count("fitted to shuffled") == 1
    assert "shuffled labels" in found.plot().svg


def test_the_report_has_a_table_of_what_stands_beside(
    photos: ImageCollection, tmp_path: Path
) -> None:
    beside = [fitted(photos, posterior=True)]
    document = document_of(compare(photos, "raw", stored(photos), fields=FIELD, beside=beside))
    markdown = render_markdown([document])
    table = markdown.partition("## Maps that have seen labels")[2].partition("##")[0]
    assert "label\\_kind" in table
    assert "posterior\\_kind" in table
    render_report(document, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("posterior_kind</td>") == 1
    # In the field's card what is compared, in the table that beside it, too.
    assert page.count("has seen labels of") == 2
