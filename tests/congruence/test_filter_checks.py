"""What strict mode leaves to be checked here finds the points that an engine's filter finds."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from intramodal.store.base import Filter, Store, VectorSpec
from intramodal.store.open import open_store
from intramodal.store.server.conditions import Allowed, part
from intramodal.store.server.convert import Limits
from intramodal.types import unit_rows

N = 6
SCALARS: list[Any] = [
    *(None, True, False, 0, 1, 7, -3, 2**53, 2**53 + 1, 1.0, 7.0, 7.5, 0.0, float(2**53), 1e300),
    *("", "7", "7.0", "true", "cat"),
]
scalar = st.sampled_from(SCALARS)
value = st.recursive(
    scalar,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("bc"), inner),
    max_leaves=6,
)
payloads = st.lists(
    st.dictionaries(st.sampled_from(["f", "f.b", "b", "b.c", '"f"']), value, max_size=3),
    min_size=N,
    max_size=N,
)
fields = st.sampled_from(["f", "f.b", '"f.b"', 'f."b.c"', "f.b.c", '"f"'])
wanted = scalar | st.lists(scalar, max_size=3)
BOTH: list[dict[str, Any]] = [
    {"f.b": 7, "f": {"b": 8}},
    {"f.b": None, "f": {"b": 8}},
    {"f.b": [], "f": 3},
    {"f": {"b": [8, None]}},
    {"f": [{"b": 8}]},
    {},
]
NULLS: list[dict[str, Any]] = [{"f": v} for v in ([None], [None, 1], [], None, [[]], [[None]])]
LARGE: list[dict[str, Any]] = [{"f": v} for v in (2**53, 2**53 + 1, 2**63 - 1, 9e15, 1e300, "x")]


@pytest.fixture(scope="module", params=["edge", ":memory:"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    place = ":memory:" if request.param == ":memory:" else tmp_path_factory.mktemp("edge")
    store = open_store(str(place))
    store.create("photos", {"raw": VectorSpec(2)})
    yield store
    store.close()


def found_by(store: Store, where: Filter) -> list[Any]:
    return sorted(point for page in store.scroll("photos", where=where) for point in page.ids)


def found_here(there: list[dict[str, Any]], where: Filter) -> list[int]:
    """Return what is found where nothing of a filter may be sent."""
    records = [SimpleNamespace(id=n, payload=p, vector=None) for n, p in enumerate(there)]
    found = part(where, Allowed(Limits(allows_unindexed=False)))
    assert found.sent is None
    return [record.id for record in found.admitted(records)]


def _is_large(found: Any) -> bool:
    if isinstance(found, list | dict):
        return any(map(_is_large, found.values() if isinstance(found, dict) else found))
    return isinstance(found, int | float) and abs(found) >= 2**53


@given(there=payloads, name=fields, looked_for=wanted)
@example(there=NULLS, name="f", looked_for=None)
@example(there=NULLS, name="f", looked_for=[None, 1])
@example(there=BOTH, name="f.b", looked_for=8)
@example(there=BOTH, name="f.b", looked_for=None)
@example(there=BOTH, name='"f.b"', looked_for=7)
@example(there=LARGE, name="f", looked_for=float(2**53))
@example(there=LARGE, name="f", looked_for=float(2**63))
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_filter_that_is_checked_here_finds_what_an_engine_finds(
    engine: Store, there: list[dict[str, Any]], name: str, looked_for: Any
) -> None:
    where = Filter({name: looked_for})
    if engine.location == ":memory:" and (_is_large(there) or _is_large(looked_for)):
        return  # Python compares whole numbers and floats exactly, engines as doubles
    engine.upsert("photos", list(range(N)), {"raw": unit_rows([[1.0, 0.0]] * N)}, there)
    assert found_here(there, where) == found_by(engine, where)
