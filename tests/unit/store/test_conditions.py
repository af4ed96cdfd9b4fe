"""A filter is cut in two where strict mode does not take all of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
from qdrant_client import models

from intramodal.errors import InputError, Unsupported
from intramodal.store.base import Filter
from intramodal.store.filters import parse_filter
from intramodal.store.server.conditions import Allowed, in_chunks, kind_of, of_search, part
from intramodal.store.server.convert import Limits, n_conditions

YEAR = parse_filter(["year=2001"])
INDEXED = Limits(allows_unindexed=False)


def field_condition(sent: Any) -> models.FieldCondition:
    """Return the only condition of a filter."""
    (one,) = sent.must
    assert isinstance(one, models.FieldCondition)
    return one


@dataclass
class Record:
    id: Any = 1
    payload: dict[str, Any] | None = field(default_factory=dict)
    vector: Any = None


def test_without_limits_the_whole_filter_is_sent() -> None:
    found = part(YEAR & Filter(has_vector="raw"), Allowed(Limits()), exclude=7)
    assert n_conditions(found.sent) == 5  # text, whole number, number; the vector; the point
    assert (found.rest.conditions, found.excludes) == ([], True)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("integer", models.FieldCondition(key="year", match=models.MatchValue(value=2001))),
        ("keyword", models.FieldCondition(key="year", match=models.MatchValue(value="2001"))),
        ("float", models.FieldCondition(key="year", range=models.Range(gte=2001, lte=2001))),
    ],
)
def test_a_search_sends_the_one_condition_that_the_index_answers_and_says_so(
    kind: str, expected: models.FieldCondition
) -> None:
    found = of_search("photos", YEAR, Allowed(INDEXED, {"year": kind}), None)
    assert field_condition(found.sent) == expected
    assert not found.rest.conditions
    lost = {"integer": ["'2001'", "2001.0"], "keyword": ["2001", "2001.0"], "float": ["'2001'"]}
    (sentence,) = found.missed
    assert all(f" {value} " in sentence.replace(":", " ") for value in lost[kind])
    assert f"of type {kind}" in sentence


def test_a_search_that_sends_everything_misses_nothing() -> None:
    numbers = Filter({"year": [2001, 2001.0]})
    assert of_search("photos", YEAR, Allowed(Limits()), None).missed == ()
    assert of_search("photos", numbers, Allowed(INDEXED, {"year": "float"}), None).missed == ()
    kind = Filter({"kind": "a"})
    assert of_search("photos", kind, Allowed(INDEXED, {"kind": "keyword"}), None).missed == ()


def test_a_search_says_which_points_it_finds_besides_and_by_which_path() -> None:
    year, inner = Filter({"year": 2001}), Filter({"a.b": "x"})
    (more,) = of_search("photos", year, Allowed(INDEXED, {"year": "float"}), None).missed
    assert "also find points whose 'year' is the number 2001.0" in more
    (path,) = of_search("photos", inner, Allowed(INDEXED, {"a.b": "keyword"}), None).missed
    assert 'not by "a.b"' in path


@pytest.mark.parametrize("kind", ["integer", "keyword", "float", "bool"])
@pytest.mark.parametrize("limits", [INDEXED, Limits(conditions_a_filter=1)])
def test_an_index_that_would_lose_points_is_not_used_where_points_are_read(
    kind: str, limits: Limits
) -> None:
    found = part(YEAR, Allowed(limits, {"year": kind}))
    assert (found.sent, str(found.rest)) == (None, "year=2001")
    found = part(Filter({"a.b": "x"}), Allowed(INDEXED, {"a.b": "keyword"}))
    assert found.sent is None  # the key of the name "a.b" has no index


@pytest.mark.parametrize(
    ("kind", "wanted", "rest"),
    [
        ("keyword", ["a", "b"], "all"),
        ("bool", True, "all"),
        ("float", [2001, 2001.0], "year=2001"),
        ("integer", 2001, "year=2001"),  # which may hold 2001.0 as 2001: Edge's does
    ],
)
def test_what_an_index_finds_whole_is_sent_and_checked_if_it_may_be_more(
    kind: str, wanted: Any, rest: str
) -> None:
    found = part(Filter({"year": wanted}), Allowed(INDEXED, {"year": kind}))
    assert field_condition(found.sent).key == "year"
    assert str(found.rest) == rest


@pytest.mark.parametrize("indexes", [{}, {"year": "datetime"}, {"year": "bool"}])
def test_what_no_index_answers_is_checked_here(indexes: dict[str, str]) -> None:
    found = part(YEAR, Allowed(INDEXED, indexes))
    assert (found.sent, found.fields) == (None, ["year"])
    records = [Record(n, {"year": y}) for n, y in enumerate([2001, "2001", 2001.0, 2002, None])]
    assert [record.id for record in found.admitted(records)] == [0, 1, 2]


def test_of_two_conditions_one_is_sent_and_the_ids_first() -> None:
    where = Filter(lacks_vector="pca") & Filter(ids=[3, 4])
    found = part(where, Allowed(Limits(conditions_a_filter=1)))
    assert found.sent.must == [models.HasIdCondition(has_id=[3, 4])]
    assert found.vectors == ["pca"]
    records = [Record(3, vector={"pca": [1.0]}), Record(4, vector={})]
    assert [record.id for record in found.admitted(records)] == [4]


def test_the_vector_without_a_name_is_found_in_a_bare_list() -> None:
    found = part(YEAR & Filter(has_vector=""), Allowed(Limits(conditions_a_filter=3)))
    assert found.vectors == [""]
    assert [len(found.admitted([Record(vector=v)])) for v in ([1.0], {"": [1.0]}, {}, None)] == [
        *(1, 1, 0, 0)
    ]


STORED: list[Any] = [None, [], True, 1, 1.0, 1.5, "1", "true", ["a", 1], [2.5], {"a": 1}]
WANTED: list[Any] = [None, True, 1, 1.0, 2.5, "1", "a"]


@pytest.mark.parametrize(("stored", "wanted"), list(product(STORED, WANTED)), ids=repr)
def test_what_is_checked_here_is_what_a_server_would_say(stored: Any, wanted: Any) -> None:
    """Held against the client's local mode, which shares Qdrant's meaning of these conditions."""
    from qdrant_client import QdrantClient

    from intramodal.store.filters import spell
    from intramodal.store.server.convert import CLIENT

    where = Filter({"year": [wanted]})
    client = QdrantClient(":memory:")
    client.create_collection("x", vectors_config={})
    payload = {} if stored is None else {"year": stored}
    client.upsert("x", [models.PointStruct(id=1, vector={}, payload=payload)])
    expected = client.count("x", count_filter=spell(CLIENT, where)).count
    found = part(where, Allowed(INDEXED))
    assert len(found.admitted([Record(1, payload)])) == expected


def test_a_path_into_lists_is_not_guessed() -> None:
    found = part(Filter({"tags[].name": "a"}), Allowed(INDEXED))
    with pytest.raises(InputError, match="index"):
        found.admitted([Record()])


def test_long_lists_of_ids_are_sent_in_the_order_of_ids() -> None:
    where = Filter(ids=[9, 2, 7, 1, 2], lacks_vector="pca")
    chunks = list(in_chunks(where, Allowed(Limits(values_a_condition=2))))
    assert [one.ids for chunk in chunks if chunk for one in chunk.conditions if one.ids] == [
        *([1, 2], [7, 9])
    ]
    assert all("lacks vector pca" in str(chunk) for chunk in chunks)


def test_a_search_that_cannot_exclude_its_own_point_says_so() -> None:
    allowed = Allowed(Limits(conditions_a_filter=1), {"year": "integer"})
    assert of_search("photos", YEAR, allowed, 7).excludes is False
    assert of_search("photos", None, allowed, 7).excludes is True
    assert of_search("photos", YEAR, allowed, None).excludes is True


@pytest.mark.parametrize(
    ("limits", "where", "setting"),
    [
        (INDEXED, YEAR, "unindexed_filtering_retrieve"),
        (Limits(values_a_condition=1), Filter({"kind": ["a", "b"]}), "condition_max_size"),
        (Limits(conditions_a_filter=1), YEAR, "filter_max_conditions"),
    ],
)
def test_a_search_names_the_limit_of_a_filter_that_it_cannot_carry(
    limits: Limits, where: Filter, setting: str
) -> None:
    with pytest.raises(Unsupported, match=setting):
        of_search("photos", where, Allowed(limits), None)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["a", "b"], "keyword"),
        ([True], "bool"),
        ([2001], "integer"),
        ([2001, 2001.0], "float"),
        (["2001", 2001, 2001.0], None),
        (["true", True], None),
        (["a", None], None),
        ([], None),
    ],
)
def test_an_index_is_made_only_if_it_finds_all_points(
    wanted: list[Any], expected: str | None
) -> None:
    assert kind_of(wanted) == expected
