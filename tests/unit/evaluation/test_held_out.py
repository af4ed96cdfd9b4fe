"""Rows that a map was fitted on judge it in no evaluation, by no route."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError
from intramodal.evaluation.compare import compare
from intramodal.evaluation.fewshot import evaluate_fewshot
from intramodal.evaluation.index import evaluate_index
from intramodal.evaluation.index_search import IndexSearch
from intramodal.evaluation.label_evidence import expected_ap
from intramodal.evaluation.labelled_rows import labelled_rows
from intramodal.evaluation.misalignment import measure_misalignment
from intramodal.evaluation.resampling import Resampling
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.evaluation.tasks import Sides
from intramodal.fit_rows import FitRows
from intramodal.ingest.backfill.in_place import backfill
from intramodal.projection.fit import fit_label_map, fit_posterior
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.filters import parse_filter
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store

N, D, K = 240, 160, 6
HALF = FitRows(share=0.5)
TRAIN = FitRows(where=("split", ("train",)))
NO_INTERVAL = Resampling(None)


@pytest.fixture
def photos() -> Iterator[ImageCollection]:
    """Images whose classes are no part of their vectors, and a field that is."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(K, size=N)
    X = (rng.normal(size=(N, D)) + 0.5 * rng.normal(size=(K, D))[kinds]).astype(np.float32)
    noise = rng.permutation(kinds)
    payloads = [
        {"kind": f"k{kind}", "noise": f"n{other}", "split": "train" if i % 2 else "test"}
        for i, (kind, other) in enumerate(zip(kinds, noise, strict=True))
    ]
    with open_store(":memory:") as store:
        made = ImageCollection.create(store, "photos", {"raw": (D, VectorOrigin("clip", "ab"))})
        made.write(list(range(N)), {"raw": X}, payloads)
        yield made


def fill(
    photos: ImageCollection, field: str, rows: FitRows = HALF, *, posterior: bool = False
) -> str:
    """Fit a map to labels of a field, store its vectors, and return their name."""
    those = labelled_rows(photos, field, rows=rows)
    made = fit_posterior(those, force=True) if posterior else fit_label_map(those)
    backfill(photos, made)
    return made.default_vector


def held(rows: FitRows = HALF) -> set[int]:
    return {i for i in range(N) if (i % 2 if rows is TRAIN else rows.holds(i))}


@pytest.mark.parametrize("rows", [HALF, TRAIN, FitRows(ids=tuple(range(0, N, 3)))])
def test_rows_for_fitting_leave_queries_and_gallery(
    photos: ImageCollection, rows: FitRows
) -> None:
    name = fill(photos, "kind", rows)
    found = evaluate_retrieval(
        photos, vectors=["raw", name], fields=["kind"], resampling=NO_INTERVAL
    )
    gone = held(rows)
    for result in found:
        assert not gone & set(result.query_ids)
        assert result.n_gallery == N - len(gone)
    assert found.points.held_out is not None
    assert found.points.held_out["n_fit_rows"] == len(gone)
    assert found.to_dict()["held_out"]["vectors"][name]["fit_rows"] == str(rows)


def test_vectors_that_saw_no_labels_keep_all_rows(photos: ImageCollection) -> None:
    fill(photos, "kind")
    found = evaluate_retrieval(photos, vectors=["raw"], fields=["kind"], resampling=NO_INTERVAL)
    assert found["kind", "raw"].n_gallery == N
    assert found.points.held_out is None
    assert found["kind", "raw"].label_evidence is None


@pytest.mark.parametrize("posterior", [False, True], ids=["label", "posterior"])
def test_labels_that_say_nothing_score_chance_in_every_evaluation(
    photos: ImageCollection, posterior: bool
) -> None:
    name = fill(photos, "noise", posterior=posterior)
    found = evaluate_retrieval(photos, vectors=[name], fields=["noise"])["noise", name]
    n_others = np.full(len(found.ap), found.n_gallery - 1)
    chance = float(expected_ap(found.n_relevant, n_others).mean())
    assert found.interval is not None
    assert found.interval.low < chance < found.interval.high
    shots = evaluate_fewshot(photos, vectors=[name], fields=["noise"], shots=[4], episodes=40)
    few = next(iter(shots))
    assert not held() & set(few.ids)
    assert few.accuracy.mean() == pytest.approx(1 / K, abs=0.06)
    both = compare(photos, "raw", name, fields=["noise"])
    assert both.fields["noise"].results[1].map == pytest.approx(chance, abs=0.03)
    asked = evaluate_index(
        photos, searches=[IndexSearch(name, exact=True)], fields=["noise"], k=20, n_timed=5
    )
    assert not held() & set(asked.results[0].query_ids)
    assert asked.results[0].recall.min() == 1.0  # among as many others as were asked for
    assert asked.results[0].n_outside == 0
    measured = measure_misalignment(photos, vectors=[name], fields=["noise"])
    assert measured.points.n_points == N - len(held())


def test_judged_by_the_rows_it_was_fitted_on_noise_would_look_like_a_gain(
    photos: ImageCollection,
) -> None:
    """Why rows for fitting leave: the same figure by hand, over all rows."""
    name = fill(photos, "noise", FitRows(share=1.0))
    table = photos.table(["raw", name], payload=["noise"])
    leaking, fair = (
        retrieved_by_hand(table.unit(vector), table.payload["noise"]) for vector in (name, "raw")
    )
    assert leaking > fair + 0.05


def retrieved_by_hand(X: np.ndarray, labels: list[Any]) -> float:
    """Return the mAP by leave-one-out over all rows, by plain NumPy."""
    y, found = np.array(labels), []
    scores = X @ X.T
    np.fill_diagonal(scores, -np.inf)
    for row in range(len(X)):
        relevant = (y[np.argsort(-scores[row])] == y[row])[:-1]
        precision = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
        found.append(precision[relevant].mean())
    return float(np.mean(found))


def test_a_filter_and_a_sample_let_no_row_for_fitting_through(photos: ImageCollection) -> None:
    name = fill(photos, "kind")
    how: Any = {"vectors": [name], "fields": ["noise"], "resampling": NO_INTERVAL}
    filtered = evaluate_retrieval(photos, where=parse_filter(["split=test"]), **how)
    drawn = evaluate_retrieval(photos, sample=100, **how)
    for found in (filtered, drawn):
        assert not held() & set(next(iter(found)).query_ids)
    # Near-copies are looked for among all rows for fitting, not among those that were read.
    for found in (filtered, drawn):
        assert found["noise", name].label_evidence is not None
    assert filtered.points.where == "split=test"


@pytest.mark.parametrize(
    ("rows", "how", "message"),
    [
        (FitRows(share=1.0), {}, "all 240 points are rows that 'label_kind' was fitted on"),
        (TRAIN, {"where": Filter(equals={"split": ["train"]})}, "such rows never judge it"),
        (TRAIN, {"sides": "split"}, "all 120 points with split=train are rows that"),
    ],
    ids=["leave-one-out", "filter", "gallery"],
)
def test_a_call_that_would_leak_is_refused(
    photos: ImageCollection, rows: FitRows, how: dict[str, Any], message: str
) -> None:
    name = fill(photos, "kind", rows)
    for job in (evaluate_retrieval, evaluate_fewshot):
        with pytest.raises(InputError, match=message):
            job(photos, vectors=[name], fields=["kind"], **how)
    with pytest.raises(InputError, match=message):
        compare(photos, "raw", name, fields=["kind"], **how)


def test_near_copies_of_rows_for_fitting_leave_too(photos: ImageCollection) -> None:
    table = photos.table(["raw"])
    X = dict(zip(table.ids, table.vectors["raw"], strict=True))
    fits, others = sorted(held()), sorted(set(range(N)) - held())
    copies = others[:5]
    for copy, of in zip(copies, fits, strict=False):
        photos.store.update_vectors("photos", "raw", [copy], X[of][None] + np.float32(0.01))
    name = fill(photos, "kind")
    found = evaluate_retrieval(photos, vectors=[name], fields=["kind"], resampling=NO_INTERVAL)
    assert not set(copies) & set(found["kind", name].query_ids)
    assert found.points.held_out is not None
    assert found.points.held_out["n_near_copies"] == len(copies)


@pytest.mark.parametrize("n_lacking", [5, len(held())], ids=["some", "all"])
def test_near_copies_of_rows_that_lack_a_compared_vector_leave_too(
    photos: ImageCollection, n_lacking: int
) -> None:
    table = photos.table(["raw"], payload=["kind", "noise", "split"])
    row_of = {point: row for row, point in enumerate(table.ids)}
    fits, copies = sorted(held()), sorted(set(range(N)) - held())[:5]
    for copy, of in zip(copies, fits, strict=False):
        near = table.vectors["raw"][[row_of[of]]] + np.float32(0.01)
        photos.store.update_vectors("photos", "raw", [copy], near)
    name = fill(photos, "kind")
    for point in fits[:n_lacking]:  # written anew, without what the map made of it
        row = row_of[point]
        payload = {field: values[row] for field, values in table.payload.items()}
        photos.store.upsert("photos", [point], {"raw": table.vectors["raw"][[row]]}, [payload])
    found = evaluate_retrieval(photos, vectors=[name], fields=["kind"], resampling=NO_INTERVAL)
    assert found.points.n_incomplete == n_lacking
    assert not set(copies) & set(found["kind", name].query_ids)
    assert found.points.held_out is not None
    assert found.points.held_out["n_near_copies"] == len(copies)
    evidence = found["kind", name].label_evidence
    assert evidence is not None
    assert evidence.control is not None
    assert (evidence.accuracy is None) == (n_lacking == len(fits))


def test_a_table_that_may_lack_rows_for_fitting_says_so(
    photos: ImageCollection, caplog: pytest.LogCaptureFixture
) -> None:
    name = fill(photos, "kind")
    how: Any = {"vectors": [name], "fields": ["kind"], "resampling": NO_INTERVAL}
    evaluate_retrieval(photos.table(["raw", name], payload=["kind"]), **how)
    assert "a part of its collection" not in caplog.text
    evaluate_retrieval(photos.table(["raw", name], payload=["kind"], sample=200), **how)
    assert "rows for fitting that it lacks judge 'label_kind', too" in caplog.text


def test_masks_over_all_points_are_understood(photos: ImageCollection) -> None:
    name = fill(photos, "kind")
    ids = photos.table(["raw"]).ids
    first = np.arange(N) < N // 2
    found = evaluate_retrieval(
        photos, vectors=[name], fields=["kind"], sides=(first, ~first), resampling=NO_INTERVAL
    )["kind", name]
    wanted = {point for point, asks in zip(ids, first, strict=True) if asks} - held()
    assert set(found.query_ids) == wanted


def test_a_table_knows_which_of_its_vectors_saw_labels(photos: ImageCollection) -> None:
    name = fill(photos, "kind")
    table = photos.table(["raw", name], payload=["kind"])
    found = evaluate_retrieval(table, vectors=[name], fields=["kind"], resampling=NO_INTERVAL)
    assert not held() & set(found["kind", name].query_ids)
    again = evaluate_retrieval(photos, vectors=[name], fields=["kind"], resampling=NO_INTERVAL)
    np.testing.assert_allclose(found["kind", name].ap, again["kind", name].ap)
    with pytest.raises(InputError, match="read without the vector 'raw'"):
        evaluate_retrieval(photos.table([name], payload=["kind"]), vectors=[name], fields=["kind"])


def test_codes_are_ranked_by_their_inner_product(photos: ImageCollection) -> None:
    name = fill(photos, "kind", posterior=True)
    found = evaluate_retrieval(photos, vectors=[name], fields=["kind"])["kind", name]
    table = photos.table([name], payload=["kind"])
    rest = [row for row, point in enumerate(table.ids) if point not in held()]
    wanted = retrieved_by_hand(table.vectors[name][rest], [table.payload["kind"][r] for r in rest])
    assert found.map == pytest.approx(wanted, abs=1e-6)
    assert found.by_distance is None


def test_maps_beside_leave_their_rows_out_as_stored_ones_do(photos: ImageCollection) -> None:
    fill(photos, "noise")
    beside = fit_posterior(labelled_rows(photos, "kind", rows=TRAIN), force=True)
    found = compare(photos, "raw", "label_noise", fields=["kind"], beside=[beside])
    assert not (held() | held(TRAIN)) & set(found.fields["kind"].results[0].query_ids)
    other = {one.vector: one.map for one in found.fields["kind"].others}
    assert other["posterior_kind"] > found.fields["kind"].results[0].map


def test_shuffled_labels_and_the_accuracy_stand_beside_the_figure(photos: ImageCollection) -> None:
    name = fill(photos, "kind")
    found = evaluate_retrieval(photos, vectors=["raw", name], fields=["kind"])
    beside = found["kind", name].label_evidence
    assert beside is not None
    assert beside.chance is not None
    assert beside.control == pytest.approx(beside.chance, abs=0.04)
    table = photos.table([name], payload=["kind"])
    is_fit = np.array([point in held() for point in table.ids])
    Z, y = table.vectors[name], np.array(table.payload["kind"])
    names = sorted(set(y))
    means = np.stack([Z[is_fit & (y == kind)].mean(axis=0) for kind in names])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    right = np.array(names)[(Z[~is_fit] @ means.T).argmax(axis=1)] == y[~is_fit]
    assert beside.accuracy == pytest.approx(right.mean())
    assert "fitted to shuffled ones it has mAP" in beside.sentence
    row = found.to_dict()["fields"]["kind"]["vectors"]
    assert row[name]["label_evidence"]["accuracy"] == beside.accuracy
    assert row["raw"]["label_evidence"] is None
    both = compare(photos, "raw", name, fields=["kind"])
    assert f"{name!r} has seen labels of 'kind'; fitted to shuffled" in both.sentence("kind")


def test_classes_that_the_map_has_not_seen_are_reported_apart(
    photos: ImageCollection, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = {i: p["kind"] for page in photos.scroll(payload=True) for i, p in
             zip(page.ids, page.payloads, strict=True)}  # fmt: skip
    known = tuple(i for i, kind in kinds.items() if kind in ("k0", "k1", "k2") and i in held())
    name = fill(photos, "kind", FitRows(ids=known))
    found = evaluate_retrieval(photos, vectors=[name], fields=["kind"], resampling=NO_INTERVAL)
    beside = found["kind", name].label_evidence
    assert beside is not None
    assert beside.unseen == ("k3", "k4", "k5")
    of = np.array([kinds[i] in beside.unseen for i in found["kind", name].query_ids])
    assert beside.map_unseen == pytest.approx(found["kind", name].ap[of].mean())
    assert beside.map_seen == pytest.approx(found["kind", name].ap[~of].mean())
    assert "has never seen 3 of 6 classes of 'kind'" in caplog.text


def test_a_map_that_knows_less_than_half_of_the_classes_does_not_judge_them(
    photos: ImageCollection,
) -> None:
    table = photos.table(["raw"], payload=["kind"])
    known = [i for i, kind in zip(table.ids, table.payload["kind"], strict=True) if kind < "k2"]
    name = fill(photos, "kind", FitRows(ids=tuple(known[::2])))
    with pytest.raises(InputError, match="has never seen 4 of 6 classes of 'kind'"):
        evaluate_retrieval(photos, vectors=[name], fields=["kind"])


def test_classes_that_no_query_is_of_are_none_that_the_map_should_know(
    photos: ImageCollection,
) -> None:
    """Issue 22: rare classes in the gallery alone had a map of all other classes refused."""
    table = photos.table(["raw"], payload=["kind"])
    known = [i for i, kind in zip(table.ids, table.payload["kind"], strict=True) if kind < "k2"]
    name = fill(photos, "kind", FitRows(ids=tuple(known[::2])))
    asked = Sides.parse("kind=k0,k1", None)
    found = evaluate_retrieval(
        photos, vectors=[name], fields=["kind"], sides=asked, resampling=NO_INTERVAL
    )
    beside = found["kind", name].label_evidence
    assert beside is not None
    assert beside.unseen == ()
    assert beside.map_unseen is None


def test_chance_is_the_mean_over_random_orders(rng: np.random.Generator) -> None:
    n, R = 12, 5
    found = []
    for _ in range(20_000):
        relevant = rng.permutation(n) < R
        precision = np.cumsum(relevant) / np.arange(1, n + 1)
        found.append(precision[relevant].mean())
    expected = expected_ap(np.array([R]), np.array([n]))[0]
    assert expected == pytest.approx(np.mean(found), abs=5 * np.std(found) / np.sqrt(20_000))


def test_labelled_rows_are_the_fit_rows_with_labels_and_the_rest_is_the_gallery(
    photos: ImageCollection,
) -> None:
    photos.store.set_payload("photos", [min(held())], {"kind": ""})
    found = labelled_rows(photos, "kind")
    assert len(found.X) == len(held()) - 1
    assert found.gallery is not None
    assert len(found.gallery) == N - len(held())
    assert found.made_by == ("clip", "ab")
    assert sum(found.labels.counts.values()) == len(found.X)


def test_a_class_of_one_labelled_image_is_known_to_the_map(photos: ImageCollection) -> None:
    """Issue 22: without it, 100 labels of many classes left half of them unseen."""
    photos.store.set_payload("photos", [min(held())], {"kind": "rare"})
    found = labelled_rows(photos, "kind")
    assert found.labels.counts["rare"] == 1
    made = fit_label_map(found)
    assert made.labels is not None
    assert "rare" in made.labels.counts


@pytest.mark.parametrize(
    ("field", "rows", "message"),
    [
        ("nothing", HALF, "no point has a value in field 'nothing'"),
        ("kind", FitRows(ids=(999,)), "no point of 'photos' is for fitting: 1 ids"),
        ("kind", FitRows(where=("split", ("valid",))), "for fitting: split=valid"),
        ("kind", FitRows(ids=(1,)), "one class only"),
    ],
)
def test_rows_that_cannot_be_fitted_to_are_refused(
    photos: ImageCollection, field: str, rows: FitRows, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        labelled_rows(photos, field, rows=rows)


def test_maps_are_not_fitted_to_vectors_of_maps(photos: ImageCollection) -> None:
    with pytest.raises(InputError, match="projected already; fit on the encoder's own"):
        labelled_rows(photos, "kind", vector=fill(photos, "kind"))


def test_texts_are_refused_with_the_reason(photos: ImageCollection) -> None:
    from intramodal.evaluation.text_retrieval import evaluate_text_retrieval
    from intramodal.store.search import search

    name = fill(photos, "kind")
    with pytest.raises(InputError, match=r"was fitted to labels of images .*takes no texts"):
        evaluate_text_retrieval(
            photos, vector=name, fields=["kind"], texts=np.ones((K, D), np.float32)
        )
    with pytest.raises(InputError, match=r"was fitted to labels of images .*takes no texts"):
        search(photos, text="a cat", vectors=[name], encoder=lambda name: None)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("rerank", [None, 30])
def test_the_query_side_of_a_map_is_judged_without_its_rows(
    photos: ImageCollection, rerank: int | None
) -> None:
    made = fit_label_map(labelled_rows(photos, "noise", rows=HALF))
    side: dict[str, Any] = {"query_side": made, "rerank": rerank}
    found = evaluate_retrieval(photos, vectors=["raw"], fields=["noise"], **side)
    name = found.results[1].vector
    mapped = found["noise", name]
    chance = float(
        expected_ap(mapped.n_relevant, np.full(len(mapped.ap), mapped.n_gallery - 1)).mean()
    )
    assert mapped.interval is not None
    assert mapped.interval.low < chance < mapped.interval.high
    assert mapped.label_evidence is not None
    both = compare(photos, "raw", fields=["noise"], **side)
    assert both.fields["noise"].results[1].map == pytest.approx(mapped.map)
    assert both.to_dict()["held_out"]["vectors"][name]["fit_rows"] == str(HALF)
    search = IndexSearch("raw", exact=True, **side)
    asked = evaluate_index(photos, searches=[search], fields=["noise"], k=20, n_timed=5)
    for result in (mapped, both.fields["noise"].results[1], asked.results[0]):
        assert len(result.query_ids) > N / 3
        assert not held() & set(result.query_ids)
    assert asked.results[0].recall.mean() == 1


def test_posterior_codes_have_no_query_side(photos: ImageCollection) -> None:
    codes = fit_posterior(labelled_rows(photos, "kind", rows=HALF), force=True)
    with pytest.raises(InputError, match="posterior codes have no query side"):
        evaluate_retrieval(photos, vectors=["raw"], fields=["kind"], query_side=codes)  # type: ignore[arg-type]


def test_images_that_a_map_draws_together_are_no_near_copies(photos: ImageCollection) -> None:
    codes = fill(photos, "kind", posterior=True)
    axes = fill(photos, "kind")
    raw, of_codes, of_axes = (
        compare(photos, a, b, fields=["kind"]).fields["kind"].duplicates
        for a, b in (("raw", codes), (codes, axes), (axes, codes))
    )
    assert raw.to_dict()["n_images"] == of_codes.to_dict()["n_images"]
    assert raw.to_dict()["n_images"] == of_axes.to_dict()["n_images"]


def test_rows_for_fitting_that_nothing_tells_any_more_are_no_licence(
    photos: ImageCollection,
) -> None:
    name = fill(photos, "kind", TRAIN)
    photos.store.set_payload("photos", list(range(N)), {"split": None})
    for where in (None, parse_filter(["kind=k1,k2"])):
        with pytest.raises(InputError, match="which rows may judge it cannot be known"):
            evaluate_retrieval(photos, vectors=[name], fields=["kind"], where=where)
