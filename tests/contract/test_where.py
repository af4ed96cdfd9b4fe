"""`where`: every evaluation of matching points is that of a collection which holds them alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError
from intramodal.evaluation.agreement import compare_unlabelled
from intramodal.evaluation.compare import Comparison, compare
from intramodal.evaluation.cost import vector_costs
from intramodal.evaluation.fewshot import evaluate_fewshot
from intramodal.evaluation.fewshot_text import evaluate_fewshot_text
from intramodal.evaluation.index import evaluate_index
from intramodal.evaluation.index_search import IndexSearch
from intramodal.evaluation.misalignment import measure_misalignment
from intramodal.evaluation.recovery import recovery_curve
from intramodal.evaluation.results import Results
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.evaluation.rivals.oti import Inversion, evaluate_inversion
from intramodal.evaluation.tasks import Sides
from intramodal.evaluation.text_retrieval import evaluate_text_retrieval
from intramodal.store.base import Filter, Store
from intramodal.store.collection import ImageCollection
from intramodal.store.filters import parse_filter
from intramodal.store.manifest import VectorOrigin
from intramodal.types import PointId, VectorTable, point_id
from tests.contract.test_foreign import needs_engine, opened

N, DIM = 180, 16
RNG = np.random.default_rng(5)
TENANT = ["acme" if i % 3 else "globex" for i in range(N)]
# Of one class more than the others have, so that classes are those of the matching points.
KIND = [f"k{i % 5}" if i % 3 else f"k{i % 4}" for i in range(N)]
IDS: list[PointId] = [point_id("shop", str(i)) for i in range(N)]
CENTRES = {f"k{k}": RNG.normal(size=DIM) for k in range(5)}
RAW = np.stack([CENTRES[kind] for kind in KIND]) + RNG.normal(scale=1.5, size=(N, DIM))
RAW = RAW.astype(np.float32)
PAYLOADS: list[dict[str, Any]] = [
    {
        "tenant": TENANT[i],
        "kind": KIND[i],
        "split": ("train", "test")[i // 3 % 2],
        "year": 2012.0 if i % 2 else 2013,
        "tags": [["old", "red"], ["red"], ["blue"]][i % 3],
        "path": f"{i}.jpg",
    }
    for i in range(N)
]
FIELDS = ["tenant", "kind", "split", "year", "tags"]
ACME = parse_filter(["tenant=acme"])
OURS = [i for i in range(N) if TENANT[i] == "acme"]
TEXTS = RNG.normal(size=(40, DIM)).astype(np.float32)
FIVE = TEXTS[:5]
SAID = RNG.normal(size=(N, DIM)).astype(np.float32) + RAW


def create(store: Store, name: str, rows: list[int]) -> ImageCollection:
    clip = VectorOrigin("clip", "3f9a")
    pca = VectorOrigin("clip", "3f9a", projection="0c1d", source="raw")
    made = ImageCollection.create(store, name, {"raw": (DIM, clip), "pca": (8, pca)})
    vectors = {"raw": RAW[rows], "pca": RAW[rows, :8].copy()}
    made.write([IDS[i] for i in rows], vectors, [PAYLOADS[i] for i in rows])
    return made


@pytest.fixture(scope="module", params=[pytest.param("edge", marks=needs_engine), "memory"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    with opened(request.param, tmp_path_factory.mktemp("store")) as store:
        create(store, "shop", list(range(N)))
        create(store, "acme", OURS)
        yield store


@pytest.fixture
def shop(store: Store) -> ImageCollection:
    return ImageCollection.open(store, "shop")


@pytest.fixture
def acme(store: Store) -> ImageCollection:
    return ImageCollection.open(store, "acme")


def said(source: Any) -> Inversion:
    """Return texts of all images of a source, as if they had been inverted."""
    is_shop = len(source) == N if isinstance(source, VectorTable) else source.name == "shop"
    rows = list(range(N)) if is_shop else OURS
    none = np.zeros(len(rows), np.float32)
    return Inversion([IDS[i] for i in rows], SAID[rows], SAID[rows], none, none, 0)


BOTH: dict[str, Any] = {"vectors": ["raw", "pca"], "fields": ["kind"]}
SEARCHES = [IndexSearch("raw"), IndexSearch("raw", prefetch="pca"), IndexSearch("raw", fuse="pca")]
Job = Callable[..., Results]
JOBS: dict[str, Job] = {
    "retrieval": lambda at, **more: evaluate_retrieval(at, **BOTH, **more),
    "sides": lambda at, **more: evaluate_retrieval(at, **BOTH, sides="split", **more),
    "fewshot": lambda at, **more: evaluate_fewshot(at, **BOTH, episodes=3, **more),
    "fewshot-text": lambda at, **more: evaluate_fewshot_text(
        at, texts=FIVE, fields=["kind"], episodes=2, methods=["tip-adapter", "lda"], **more
    ),
    "text": lambda at, **more: evaluate_text_retrieval(at, texts=FIVE, fields=["kind"], **more),
    "misalignment": lambda at, **more: measure_misalignment(at, **BOTH, **more),
    "recovery": lambda at, **more: recovery_curve(at, texts=TEXTS, pairs=100, **more),
    "oti": lambda at, **more: evaluate_inversion(at, said(at), fields=["kind"], **more),
    "compare": lambda at, **more: compare(at, fields=["kind"], **more),
}
OF_COLLECTIONS: dict[str, Job] = {
    "index": lambda at, **more: evaluate_index(
        at, searches=SEARCHES, fields=["kind"], k=20, n_timed=2, **more
    ),
    "sides of an index": lambda at, **more: evaluate_index(
        at, searches=SEARCHES, fields=["kind"], k=20, n_timed=2, sides=Sides.of("split"), **more
    ),
    "no labels": lambda at, **more: compare_unlabelled(at, **more),
}


def figures(values: Any) -> Any:
    """Return the JSON values of a result without those that may differ."""
    if isinstance(values, list):
        return [figures(value) for value in values]
    if not isinstance(values, dict):
        return values
    # A verdict's sentence names the filter, its decision the collection.
    differ = ("collection", "where", "run_id", "latency_ms", "cost", "sentence", "decision")
    return {key: figures(value) for key, value in values.items() if key not in differ}


@pytest.mark.parametrize("name", [*JOBS, *OF_COLLECTIONS])
def test_of_matching_points_all_figures_are_those_of_a_collection_of_them_alone(
    shop: ImageCollection, acme: ImageCollection, name: str
) -> None:
    job = {**JOBS, **OF_COLLECTIONS}[name]
    found, alone, whole = job(shop, where=ACME), job(acme), job(shop)
    assert figures(found.to_dict()) == figures(alone.to_dict())
    assert figures(found.to_dict()) != figures(whole.to_dict())
    assert replace(found.points, collection=alone.points.collection, where=None) == alone.points
    assert found.to_dict()["where"] == "tenant=acme"
    assert alone.to_dict()["where"] is None


@pytest.mark.parametrize("name", JOBS)
def test_a_table_is_filtered_as_a_store_filters(
    shop: ImageCollection, acme: ImageCollection, name: str
) -> None:
    tables = [c.table(["raw", "pca"], payload=FIELDS) for c in (shop, acme)]
    found, alone = JOBS[name](tables[0], where=ACME), JOBS[name](tables[1])
    assert figures(found.to_dict()) == figures(alone.to_dict())
    assert found.to_dict()["where"] == "tenant=acme"


@pytest.mark.parametrize(
    "texts",
    [
        ["year=2012"],
        ["year=2012,2013", "tags=red"],
        ["tags=old,blue", "tenant=globex"],
        ["id=" + ",".join(map(str, IDS[:40:2])), "tenant=acme"],
        ["all"],
    ],
)
def test_a_table_and_its_collection_agree_on_what_matches(
    shop: ImageCollection, texts: list[str]
) -> None:
    where = parse_filter(texts)
    table = shop.table(["raw"], payload=["tenant", "kind", "year", "tags"])
    found = [
        evaluate_retrieval(source, vectors=["raw"], fields=["kind"], where=where)
        for source in (shop, table)
    ]
    assert found[0].points.n_points == found[1].points.n_points == shop.count(where)
    assert figures(found[0].to_dict()) == figures(found[1].to_dict())


def test_a_sample_is_drawn_among_the_matching_points(
    shop: ImageCollection, acme: ImageCollection
) -> None:
    found, alone = (
        evaluate_retrieval(source, **BOTH, where=where, sample=50, seed=3)
        for source, where in ((shop, ACME), (acme, None))
    )
    assert found.points.sample == {"n_points": 50, "of": len(OURS), "seed": 3}
    assert figures(found.to_dict()) == figures(alone.to_dict())


def test_searches_carry_the_filter_and_their_recall_is_among_matching_points(
    shop: ImageCollection,
) -> None:
    mine = IndexSearch("raw", where=Filter({"split": "train"}))
    found = evaluate_index(shop, searches=[mine], fields=["kind"], k=10, n_timed=1, where=ACME)
    (result,) = found
    assert str(result.search.where) == "split=train and tenant=acme"
    assert len(result.query_ids) == len(OURS)
    assert result.n_outside == 0


def test_a_gallery_on_the_field_of_the_filter_narrows_it(shop: ImageCollection) -> None:
    # A point has several tags: both conditions must hold, which their common values do not say.
    where, sides = parse_filter(["tags=red"]), Sides.parse(None, "tags=old")
    ask: dict[str, Any] = {"searches": [IndexSearch("raw", exact=True)], "fields": ["kind"]}
    ask |= {"k": 10, "n_timed": 1}
    (result,) = evaluate_index(shop, **ask, where=where, sides=sides)
    assert str(result.search.where) == "tags=old and tags=red"
    assert set(result.recall) == {1.0}
    assert (result.n_answers == 10).all()
    exact = evaluate_retrieval(shop, vectors=["raw"], fields=["kind"], where=where, sides=sides)
    (first,) = exact
    assert first.n_gallery == N // 3


def test_the_gallery_of_a_mask_is_of_the_matching_points(shop: ImageCollection) -> None:
    is_odd = np.arange(len(OURS)) % 2 == 1
    ask: dict[str, Any] = {"fields": ["kind"], "sides": (~is_odd, is_odd), "where": ACME}
    exact = evaluate_retrieval(shop, vectors=["raw"], **ask)["kind", "raw"]
    assert (exact.n_gallery, len(exact.query_ids)) == (is_odd.sum(), (~is_odd).sum())
    searches = [IndexSearch("raw", exact=True)]
    (found,) = evaluate_index(shop, searches=searches, k=10, n_timed=1, **ask)
    assert (found.recall == 1).all()  # of the answers that the store may give


def test_neighbours_and_costs_of_a_comparison_are_of_matching_points(
    shop: ImageCollection,
) -> None:
    found: Comparison = compare(shop, fields=["kind"], tasks=["retrieval"], where=ACME)
    ours = {IDS[i] for i in OURS}
    nearest = found.nearest("kind", IDS[OURS[0]], k=20)
    answers = [hit.id for hits in nearest.values() for hit in hits]
    assert len(answers) == 40
    assert set(answers) <= ours
    cost = found.cost
    assert cost is not None
    assert cost["raw"]["ram_bytes"] == int(4 * N * DIM * 1.5)  # every point has the vector
    rows = compare_unlabelled(shop, where=ACME).disagreements
    shown = {hit["id"] for row in rows for hits in row["answers"].values() for hit in hits}
    assert shown
    assert shown <= ours


def test_costs_are_measured_by_filtered_searches(shop: ImageCollection) -> None:
    far = int(np.argmin(RAW @ RAW[0]))  # not among the ten that an unfiltered search finds
    where = Filter(ids=[IDS[0], IDS[far]])
    table = shop.table(["raw"], where=where)
    assert vector_costs(shop, table, ["raw"], where=where)["raw"]["recall_at_10"] == 1.0
    assert vector_costs(shop, table, ["raw"])["raw"]["recall_at_10"] is None


@pytest.mark.parametrize("name", ["shop", "table"])
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["tenant=acne"], "has tenant=acne; some of its values are 'acme'"),
        (["year=2011"], "has year=2011; its values are '201"),
        (
            ["tags=old", "tenant=acme"],
            "no point has tags=old and tenant=acme: each condition holds for some points",
        ),
        ([f"id={point_id('shop', 'none')}"], f"has id={point_id('shop', 'none')}"),
    ],
)
def test_a_filter_that_no_point_matches_says_what_is_near(
    shop: ImageCollection, name: str, where: list[str], expected: str
) -> None:
    payload = ["kind", "tenant", "tags", "year"]
    source = shop if name == "shop" else shop.table(["raw"], payload=payload)
    ask: dict[str, Any] = {"vectors": ["raw"], "fields": ["kind"]}
    with pytest.raises(InputError) as error:
        evaluate_retrieval(source, **ask, where=parse_filter(where))
    assert expected in str(error.value)
    assert ("of 'shop'" in str(error.value)) == (name == "shop" and "each" not in expected)


def test_a_filter_on_an_unknown_field_names_those_there_are(shop: ImageCollection) -> None:
    with pytest.raises(InputError, match=r"no point has a value in field 'tennant'; .* 'tenant'"):
        recovery_curve(shop, texts=TEXTS, where=parse_filter(["tennant=acme"]))
    with pytest.raises(InputError, match="no point with tenant=acme has a value in field 'kint'"):
        evaluate_retrieval(shop, vectors=["raw"], fields=["kint"], where=ACME)


def test_matching_points_without_the_vectors_are_named(store: Store) -> None:
    lamps = ImageCollection.open(store, "shop")
    store.add_vector("shop", "other", store.info("shop").vectors["pca"])
    lamps = ImageCollection.open(store, "shop")
    with pytest.raises(InputError, match="none of the 120 points with tenant=acme has all of the"):
        evaluate_retrieval(lamps, vectors=["raw", "other"], fields=["kind"], where=ACME)
    store.delete_vector("shop", "other")


def test_a_table_that_cannot_be_filtered_says_why(shop: ImageCollection) -> None:
    ask: dict[str, Any] = {"vectors": ["raw"], "fields": ["kind"]}
    with pytest.raises(InputError, match="read without the field 'tenant', only with kind"):
        evaluate_retrieval(shop.table(["raw"], payload=["kind"]), **ask, where=ACME)
    drawn = shop.table(["raw"], payload=["kind", "tenant"], sample=40)
    with pytest.raises(
        InputError, match=r"a random sample of 180 points, .* filter when you read"
    ):
        evaluate_retrieval(drawn, **ask, where=ACME)
    whole = replace(shop.table(["raw"], payload=["kind", "tenant"]), drawn_from=N)
    assert evaluate_retrieval(whole, **ask, where=ACME).points.sample is None
    with pytest.raises(InputError, match="payload fields and ids, got: has vector raw"):
        evaluate_retrieval(whole, **ask, where=Filter(has_vector="raw"))


def test_absent_values_are_found_in_tables_as_in_stores(store: Store) -> None:
    made = ImageCollection.create(store, "bare", {"raw": (4, VectorOrigin("clip", "3f9a"))})
    X = RAW[:8, :4].copy()
    payloads: list[dict[str, Any]] = [
        {"kind": "ab"[i % 2], **({} if i < 3 else {"x": [] if i < 4 else "y"})} for i in range(8)
    ]
    made.write(list(range(8)), {"raw": X}, payloads)
    where = Filter({"x": None})
    table = made.table(["raw"], payload=["kind", "x"])
    found = [
        evaluate_retrieval(source, vectors=["raw"], fields=["kind"], where=where).points.n_points
        for source in (made, table)
    ]
    assert found == [4, 4]
    store.drop("bare")
