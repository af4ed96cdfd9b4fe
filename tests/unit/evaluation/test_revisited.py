"""The revisited protocol against the published formula in plain loops, and a case by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import (
    GroundTruth,
    ImageCollection,
    Resampling,
    evaluate_revisited,
    open_store,
    parse_filter,
    read_ground_truth,
)
from intramodal.errors import InputError
from intramodal.evaluation.tasks import FieldFilter, Sides
from intramodal.ground_truth import DIFFICULTIES
from intramodal.runs.run import Run
from intramodal.store.base import VectorSpec
from intramodal.types import VectorTable
from tests.unit.evaluation.plain_revisited import KS, published

AS_PUBLISHED = 1e-7  # what the issue asks for; float32 scores against float64 ones


def places(*lists: Sequence[int]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(some, dtype=np.int64) for some in lists)


def truth(**parts: Any) -> GroundTruth:
    """Return a ground truth of two queries; the second has no easy image."""
    made: dict[str, Any] = {
        "gallery": ("g0", "g1", "g2", "g3", "g4", "g5"),
        "queries": ("q0", "q1"),
        "easy": places([0], []),
        "hard": places([3], [5]),
        "junk": places([1], [0, 1]),
    }
    return GroundTruth(**{**made, **parts})


def at_angles(angles: Sequence[float]) -> np.ndarray:
    return np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def by_hand() -> VectorTable:
    """Return points on a circle: q0 sees g0 ... g5 in this order, and q1 the other way round."""
    X = at_angles([0.0, 1.2, *(0.1 + 0.2 * np.arange(6))])
    names = ["q0", "q1", "g0", "g1", "g2", "g3", "g4", "g5"]
    paths = [f"jpg/{name}.jpg" for name in names]
    return VectorTable([f"id {name}" for name in names], {"raw": X}, {"path": paths})


def evaluate(table: VectorTable, judged: GroundTruth, **options: Any) -> Any:
    return evaluate_revisited(table, ground_truth=judged, vectors=["raw"], **options)


def test_a_case_by_hand() -> None:
    found = evaluate(by_hand(), truth(), ks=[1, 2, 10])
    easy, medium, hard = (found[name, "raw"] for name in DIFFICULTIES)
    # Easy, q0: g1 (junk) and g3 (hard) leave g0 at the first place. q1 has no easy image.
    assert easy.labels == ["q0"]
    assert easy.ap.tolist() == [1.0]
    assert easy.n_without_positives == 1
    # Medium, q0: without g1, g0 stands at place 1 and g3 at place 3; q1: g5 at place 1.
    at_three = (1 / 2 + 2 / 3) / 2
    assert medium.ap.tolist() == pytest.approx([(1 + at_three) / 2, 1.0])
    assert medium.map == pytest.approx((1 + (1 + at_three) / 2) / 2)
    assert medium.metrics["mP@1"].tolist() == [1.0, 1.0]
    # q0's last relevant image is the third: 1 of 2, and of ten only three count: 2 of 3.
    assert medium.metrics["mP@2"].tolist() == pytest.approx([1 / 2, 1.0])
    assert medium.metrics["mP@10"].tolist() == pytest.approx([2 / 3, 1.0])
    # Hard, q0: without g0 and g1, g3 stands at place 2.
    assert hard.ap.tolist() == pytest.approx([(0 / 1 + 1 / 2) / 2, 1.0])
    assert hard.n_relevant.tolist() == [1, 1]
    assert {result.n_gallery for result in found} == {6}


def landmarks(rng: np.random.Generator, judged: GroundTruth, d: int) -> np.ndarray:
    """Return random vectors of queries, then gallery; relevant images are a bit nearer."""
    Q = rng.normal(size=(len(judged.queries), d))
    G = rng.normal(size=(len(judged.gallery), d))
    for q, (easy, hard) in enumerate(zip(judged.easy, judged.hard, strict=True)):
        G[easy] += 0.4 * Q[q]
        G[hard] += 0.2 * Q[q]
    return np.vstack([Q, G]).astype(np.float32)


@pytest.mark.real_data
@pytest.mark.parametrize("file", ["oxford5k_gnd_roxford5k.pkl", "paris6k_gnd_rparis6k.pkl"])
@pytest.mark.parametrize("made", ["random", "landmarks"])
def test_the_real_ground_truth_with_random_vectors_equals_plain_loops(
    real_data: Path, file: str, made: str, rng: np.random.Generator
) -> None:
    judged = read_ground_truth(real_data / "roxford" / file)
    n, d = len(judged.queries), 64
    X = landmarks(rng, judged, d)
    if made == "random":
        X = rng.normal(size=X.shape).astype(np.float32)
    paths = [f"jpg/{name}.jpg" for name in (*judged.queries, *judged.gallery)]
    shuffled = rng.permutation(len(X))  # the order of points says nothing
    table = VectorTable(list(range(len(X))), {"raw": X}, {"path": paths}).take(shuffled)
    found = evaluate(table, judged, resampling=Resampling("none"))
    U = X.astype(np.float64) / np.linalg.norm(X.astype(np.float64), axis=1, keepdims=True)
    S = U[:n] @ U[n:].T
    for name in DIFFICULTIES:
        aps, precisions = published(S, *judged.judged(name))
        got = found[name, "raw"]
        assert len(got.ap) == len(aps)
        assert got.map == pytest.approx(np.mean(aps), abs=AS_PUBLISHED)
        for k, expected in zip(KS, np.mean(precisions, axis=0), strict=True):
            assert got.metrics[f"mP@{k}"].mean() == pytest.approx(expected, abs=AS_PUBLISHED)
        if made == "landmarks":
            assert got.map > 0.05  # random vectors have 0.008


def test_junk_moves_nothing_wherever_it_stands(rng: np.random.Generator) -> None:
    judged = truth(junk=places([1, 2], [1, 2]))
    table = by_hand()
    before = [result.ap.tolist() for result in evaluate(table, judged)]
    for _ in range(5):
        X = table.vectors["raw"].copy()
        X[3:5] = at_angles(rng.uniform(0, 2 * np.pi, 2))  # g1 and g2
        moved = evaluate(replace(table, vectors={"raw": X}), judged)
        assert [result.ap.tolist() for result in moved] == before
    # Images that are no junk count: these stand before all others now, one for each query.
    X[3:5] = X[:2]
    apart = evaluate(replace(table, vectors={"raw": X}), truth(junk=places([], [])))
    assert [result.ap.tolist() for result in apart] != before


def test_ties_count_as_the_mean_over_all_orders() -> None:
    table = by_hand()
    X = table.vectors["raw"].copy()
    X[2:] = X[2]  # all of the gallery
    # Easy, q0: g0 ties with g2, g4 and g5, and each place is as likely.
    expected = np.mean([((1 if place == 1 else 0) + 1 / place) / 2 for place in (1, 2, 3, 4)])
    found = evaluate(replace(table, vectors={"raw": X}), truth())["easy", "raw"]
    assert found.ap.tolist() == pytest.approx([expected])
    assert found.tie_width == pytest.approx(1 - (0 + 1 / 4) / 2)
    assert found.metrics["mP@10"].tolist() == pytest.approx([(1 + 1 / 2 + 1 / 3 + 1 / 4) / 4])


@pytest.mark.parametrize(
    "spelled", ["{}", "{}.jpg", "jpg/{}.jpeg", "paris/hall/{}", "/a/b/{}.png"]
)
def test_images_are_found_by_name_file_name_or_path(spelled: str) -> None:
    names = ["q0", "q1", "g0", "g1", "g2", "g3", "g4", "g5"]
    table = replace(by_hand(), payload={"file": [spelled.format(name) for name in names]})
    expected = [result.map for result in evaluate(by_hand(), truth())]
    assert [r.map for r in evaluate(table, truth(), name_field="file")] == expected


def test_images_are_found_by_their_ids() -> None:
    names = ["q0", "q1", "g0", "g1", "g2", "g3", "g4", "g5"]
    found = evaluate(replace(by_hand(), ids=names, payload={}), truth(), name_field="id")
    assert found["medium", "raw"].query_ids == ["q0", "q1"]


@pytest.mark.parametrize("value", [None, "", ".", "..", "/", "a/", ".jpg", ["q0"], 0.5, True])
def test_values_that_are_no_names_name_nothing(value: Any) -> None:
    table = by_hand()
    more = VectorTable(
        [*table.ids, "id x"],
        {"raw": np.vstack([table.vectors["raw"], table.vectors["raw"][:1]])},
        {"path": [*table.payload["path"], value]},
    )
    assert evaluate(more, truth(queries=("q0", "q1"))).n_unnamed == 1
    with pytest.raises(InputError, match=r"1 of 2 queries \(None\)"):
        evaluate(more, truth(queries=("q0", "None")))


def test_numbers_are_names_too() -> None:
    ids: list[Any] = list(range(8))
    judged = truth(queries=("0", "1"), gallery=("2", "3", "4", "5", "6", "7"))
    found = evaluate(replace(by_hand(), ids=ids, payload={}), judged, name_field="id")
    assert [r.map for r in found] == [r.map for r in evaluate(by_hand(), truth())]


def test_names_with_dots_are_found() -> None:
    judged = truth(queries=("st.peter", "q1"))
    paths = ["st.peter.jpg", *by_hand().payload["path"][1:]]
    found = evaluate(replace(by_hand(), payload={"path": paths}), judged)
    assert found["easy", "raw"].labels == ["st.peter"]


def test_points_that_the_ground_truth_does_not_name_take_no_part() -> None:
    table = by_hand()
    more = VectorTable(
        [*table.ids, "id x"],
        {"raw": np.vstack([table.vectors["raw"], table.vectors["raw"][:1]])},
        {"path": [*table.payload["path"], "jpg/q0_copy.jpg"]},
    )
    found = evaluate(more, truth())
    assert found.n_unnamed == 1
    assert [r.map for r in found] == [r.map for r in evaluate(table, truth())]


def test_a_query_that_is_stored_in_the_gallery_too_needs_sides() -> None:
    table = by_hand()
    twice = VectorTable(
        [*table.ids, "id x"],
        {"raw": np.vstack([table.vectors["raw"], table.vectors["raw"][:1]])},
        {
            "path": [*table.payload["path"], "whole/q0.jpg"],
            "split": ["query", "query", *["gallery"] * 7],
        },
    )
    with pytest.raises(InputError, match=r"1 of 2 queries have several points each, q0 for exam"):
        evaluate(twice, truth())
    sides = Sides(FieldFilter("split", ("query",)), FieldFilter("split", ("gallery",)))
    found = evaluate(twice, truth(), sides=sides)
    assert [r.map for r in found] == [r.map for r in evaluate(table, truth())]


def test_a_query_that_the_ground_truth_names_in_the_gallery_does_not_find_itself() -> None:
    judged = truth(queries=("q0", "g5"), hard=places([3], [4]), junk=places([1], [0]))
    table = by_hand().take(np.array([0, 2, 3, 4, 5, 6, 7]))
    found = evaluate(table, judged)
    # g5 sees g4, g3, ...: at the first place is g4, not g5 itself.
    assert found["hard", "raw"].ap.tolist()[1] == 1.0
    itself = truth(queries=("q0", "g5"), hard=places([3], [5]), junk=places([1], [0]))
    assert evaluate(table, itself)["hard", "raw"].n_without_positives == 1


def test_names_without_a_point_are_counted_and_named() -> None:
    few = by_hand().take(np.array([0, 2, 3, 4]))
    with pytest.raises(InputError) as caught:
        evaluate(few, truth())
    assert str(caught.value) == (
        "no point has the name of 1 of 2 queries (q1) and of 3 of 6 gallery images (g3, g4, g5), "
        "by the field 'path'; ingest these images, or name the field that holds their file names"
    )


def test_points_without_one_of_the_vectors_are_named_as_a_reason() -> None:
    few = replace(by_hand().take(np.arange(7)), n_incomplete=1)
    with pytest.raises(InputError, match=r"\(g5\), by .* \(1 points lack one of the vectors\);"):
        evaluate(few, truth())


def test_queries_that_are_cropped_in_part_are_refused() -> None:
    table = by_hand()
    cropped: list[Any] = [True, False, *[None] * 6]
    mixed = replace(table, payload={**table.payload, "cropped": cropped})
    with pytest.raises(InputError, match=r"1 of 2 queries were cropped .* 1 were not \(q1\)"):
        evaluate(mixed, truth())
    cropped[1] = True
    assert evaluate(mixed, truth()).n_cropped == 2
    whole = replace(table, payload={**table.payload, "cropped": [False, False, *[None] * 6]})
    assert evaluate(whole, truth()).n_cropped == 0
    assert evaluate(table, truth()).n_cropped is None


@pytest.mark.parametrize("unit", ["class", "kind"])
def test_what_queries_do_not_have_is_not_resampled(unit: str) -> None:
    with pytest.raises(InputError, match="no class or label"):
        evaluate(by_hand(), truth(), resampling=Resampling(unit))


def test_a_ground_truth_without_relevant_images_is_refused() -> None:
    nothing = truth(easy=places([], []), hard=places([], []), junk=places([], []))
    with pytest.raises(InputError, match="names no relevant image for any query"):
        evaluate(by_hand(), nothing)


def many(rng: np.random.Generator, n: int = 24) -> tuple[VectorTable, GroundTruth]:
    """Return n queries of four landmarks with five images each, and a gallery of 30."""
    landmark = rng.normal(size=(4, 6))
    of_query, of_image = np.arange(n) % 4, np.repeat(np.arange(4), 5)
    Q = landmark[of_query] + rng.normal(size=(n, 6))
    G = np.vstack([landmark[of_image] + rng.normal(size=(20, 6)), rng.normal(size=(10, 6))])
    names = [*(f"q{i}" for i in range(n)), *(f"g{i}" for i in range(30))]
    judged = GroundTruth(
        tuple(names[n:]),
        tuple(names[:n]),
        easy=places(*(5 * c + np.arange(3) for c in of_query)),
        hard=places(*(5 * c + np.array([3]) for c in of_query)),
        junk=places(*(5 * c + np.array([4]) for c in of_query)),
    )
    X = np.vstack([Q, G]).astype(np.float32)
    return VectorTable(list(range(len(X))), {"raw": X}, {"path": names}), judged


def test_the_default_interval_is_a_jackknife_over_images_of_both_sides(
    rng: np.random.Generator,
) -> None:
    table, judged = many(rng, 8)
    found = evaluate(table, judged)["medium", "raw"]
    assert found.interval is not None
    assert (found.interval.population, found.interval.n_units) == ("images", 38)
    # Left out by evaluating again, without the image.
    means = []
    for left in range(len(table)):
        kept = table.take(np.delete(np.arange(len(table)), left))
        fewer = without(judged, left)
        means.append(evaluate(kept, fewer, resampling=Resampling("none"))["medium", "raw"].map)
    # Delete-one jackknife of a mean; see `group_jackknife` for units of one size.
    n = len(means)
    error = np.sqrt((n - 1) / n * np.sum((np.array(means) - np.mean(means)) ** 2))
    half = (found.interval.high - found.interval.low) / 2
    assert half == pytest.approx(2.026 * error, rel=0.02)  # t of 37 degrees of freedom


def without(judged: GroundTruth, left: int) -> GroundTruth:
    """Return the ground truth without a query, or without an image of the gallery."""
    n = len(judged.queries)
    if left < n:
        keep = [q for q in range(n) if q != left]
        lists = {name: tuple(getattr(judged, name)[q] for q in keep) for name in LISTS}
        return replace(judged, queries=tuple(judged.queries[q] for q in keep), **lists)
    g = left - n
    lists = {
        name: tuple(some[some != g] - (some[some != g] > g) for some in getattr(judged, name))
        for name in LISTS
    }
    gallery = tuple(name for i, name in enumerate(judged.gallery) if i != g)
    return replace(judged, gallery=gallery, **lists)


LISTS = ("easy", "hard", "junk")


def test_independent_queries_have_an_interval_of_their_own(rng: np.random.Generator) -> None:
    table, judged = many(rng)
    found = evaluate(table, judged, resampling=Resampling("iid"))["hard", "raw"]
    assert found.interval is not None
    assert (found.interval.population, found.interval.n_units) == ("iid", 24)
    assert found.interval.low <= found.map <= found.interval.high


def test_results_show_all_their_figures(rng: np.random.Generator) -> None:
    table, judged = many(rng)
    found = evaluate(table, judged, run=Run())
    shown = found.to_dict(classes=True)
    assert (shown["protocol"], shown["ties"]) == ("revisited", "expected")
    assert list(shown["fields"]) == ["easy", "medium", "hard"]
    medium = shown["fields"]["medium"]
    assert {name: medium[name] for name in medium if name != "vectors"} == {
        "n_queries": 24,
        "n_gallery": 30,
        "n_without_positives": 0,
        "n_relevant": 96,
    }
    figures = medium["vectors"]["raw"]
    assert figures["map"] == found["medium", "raw"].map
    assert [name for name in figures if name.startswith("mP@")] == ["mP@1", "mP@5", "mP@10"]
    assert figures["queries"] == dict(
        zip(found["medium", "raw"].labels, found["medium", "raw"].ap.tolist(), strict=True)
    )
    assert len(found.to_frame()) == 3 * 24
    assert repr(found).startswith("RetrievalResult('raw' by 'easy', mAP ")


@pytest.mark.parametrize("distance", ["Dot", "Euclid", "Manhattan"])
def test_where_the_store_ranks_otherwise_the_map_of_that_is_given_too(
    rng: np.random.Generator, distance: Any
) -> None:
    table, judged = many(rng)
    X = table.vectors["raw"] * rng.uniform(0.2, 5, size=(len(table), 1)).astype(np.float32)
    with open_store(":memory:") as store:
        store.create("oxford", {"raw": VectorSpec(X.shape[1], distance)})
        payloads = [{"path": name} for name in table.payload["path"]]
        store.upsert("oxford", table.ids, {"raw": X}, payloads)
        found = evaluate(ImageCollection.open(store, "oxford"), judged)["hard", "raw"]
    assert found.map == pytest.approx(evaluate(table, judged)["hard", "raw"].map, abs=1e-6)
    assert found.by_distance is not None
    assert found.by_distance.distance == distance
    n = len(judged.queries)
    if distance == "Manhattan":  # which no product gives
        assert found.by_distance.map is None
        return
    Q, G = X[:n].astype(np.float64), X[n:].astype(np.float64)
    S = Q @ G.T if distance == "Dot" else -np.linalg.norm(Q[:, None] - G, axis=2)
    expected = np.mean(published(S, *judged.judged("hard"))[0])
    assert found.by_distance.map == pytest.approx(expected, abs=1e-6)
    assert abs(expected - found.map) > 1e-3


def test_a_filter_chooses_the_points_that_are_looked_at() -> None:
    table = by_hand()
    doubled = VectorTable(
        [*table.ids, *(f"other {i}" for i in table.ids)],
        {"raw": np.vstack([table.vectors["raw"], table.vectors["raw"][::-1]])},
        {"path": table.payload["path"] * 2, "set": ["whole"] * 8 + ["cropped"] * 8},
    )
    found = evaluate(doubled, truth(), where=parse_filter(["set=whole"]))
    assert [r.map for r in found] == [r.map for r in evaluate(table, truth())]
    assert found.points.where == "set=whole"


def test_cut_offs_may_be_repeated_or_absent() -> None:
    assert list(evaluate(by_hand(), truth(), ks=[5, 1, 5])["easy", "raw"].metrics) == [
        "mP@1",
        "mP@5",
    ]
    assert evaluate(by_hand(), truth(), ks=[])["easy", "raw"].metrics == {}
